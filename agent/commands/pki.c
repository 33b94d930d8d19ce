/*
 * pki.c - `taffrail pki`: a CA, certificates of collectors and agents, a spool key and a hash key,
 * for a start without a PKI.
 *
 *     init --name NAME DIR     DIR/ca.pem, ca.key        CN=NAME CA, 10 years, signs leaves only
 *     collector DIR HOST…      DIR/HOST.pem, HOST.key    DNS and IP names, serverAuth, 90 days
 *     agent DIR NODE           DIR/NODE.pem, NODE.key    URI:spiffe://NAME/node/NODE, clientAuth
 *     spool FILE               FILE                      a key for spool.keys, one line
 *     hash FILE                FILE                      a key for redact.hash_key, one line
 *     seal SPOOL               SPOOL/seal.state          the first key of its seals: pki_seal.c
 *
 * All keys are EC P-256 or 32 bytes of the kernel's randomness, mode 0600. Files are made with
 * O_EXCL and O_NOFOLLOW: nothing is overwritten, no link is followed. Names become parts of paths
 * and certificates, so only letters, digits, dot, hyphen and underscore pass. The secret files are
 * written and synced before the certificate that belongs to them; what was made is removed when a
 * later step fails. Key texts are wiped.
 *
 * Exits 0; 2 on wrong usage, and where a file or name is not as it must be; 3 when it could not
 * run.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "taffrail/base.h"
#include "taffrail/commands.h"

#define CA_DAYS        3652 /* 10 years with their leap days */
#define LEAF_DAYS      90
#define BACKDATE_S     300 /* clocks of nodes differ */
#define NAME_MAX_CHARS 60u /* with " CA" below the 64 of X.509's common name */
#define CN_MAX_CHARS   64u
#define NODE_MAX_CHARS 63u
#define HOST_MAX_CHARS 253u
#define HOSTS_MAX      64
#define FILE_MAX_BYTES 65536u
#define PATH_MAX_BYTES 4096u
#define SAN_MAX_BYTES  (HOSTS_MAX * (HOST_MAX_CHARS + 8))
#define SERIAL_BYTES   16u
#define SPOOL_PREFIX   "taffrail-kek-1:"
#define HASH_PREFIX    "taffrail-hash-1:"
#define KEY_BYTES      32u

static const char usage[] =
    "usage: taffrail pki init --name NAME DIR         a CA: DIR/ca.pem and DIR/ca.key\n"
    "       taffrail pki collector DIR HOST-OR-IP...  a collector's certificate and key\n"
    "       taffrail pki agent DIR NODE               an agent's certificate and key\n"
    "       taffrail pki spool FILE                   a key for spool.keys\n"
    "       taffrail pki hash FILE                    a key for redact.hash_key\n"
    "       taffrail pki seal [-c FILE | SPOOL]       a spool's first seal key (pki seal --help)\n"
    "Keys are made with mode 0600; no file is overwritten.\n"
    "example: taffrail pki init --name \"Example Logs\" pki &&\n"
    "         taffrail pki collector pki logs.example.com 192.0.2.10 && taffrail pki agent pki "
    "node-7\n";

/* ---- telling what is wrong ------------------------------------------------------------------ */

static int bad_usage(const char *what)
{
    (void)fprintf(stderr, "pki: %s\n%s", what, usage);
    return TF_EXIT_USAGE;
}

/* The argument itself is shown only where it is known to be harmless. */
static int refuse(const char *what, const char *mend)
{
    (void)fprintf(stderr, "pki: %s; %s\n", what, mend);
    return TF_EXIT_USAGE;
}

/* path is ours, or made of names that were checked; the folder is the user's own argument. */
static int fail_file(const char *path, int error, const char *what)
{
    char reason[128];

    (void)fprintf(stderr, "pki: %s: %s: %s\n", path, what,
                  strerror_r(error, reason, sizeof reason));
    return TF_EXIT_CANNOT_RUN;
}

static int fail_crypto(const char *what)
{
    char reason[256] = "no reason given";
    unsigned long code = ERR_get_error();

    if (code != 0) {
        ERR_error_string_n(code, reason, sizeof reason);
    }
    ERR_clear_error();
    (void)fprintf(stderr, "pki: %s: %s\n", what, reason);
    return TF_EXIT_CANNOT_RUN;
}

/* ---- names ---------------------------------------------------------------------------------- */

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_name_char(char c)
{
    return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-';
}

/* A node: a file's name and one segment of a SPIFFE path, never "." or "..". */
static bool is_node(const char *node)
{
    size_t size = strnlen(node, NODE_MAX_CHARS + 1);

    if (size == 0 || size > NODE_MAX_CHARS || !is_letter_or_digit(node[0])) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!is_name_char(node[i])) {
            return false;
        }
    }
    return true;
}

static bool is_ip(const char *host)
{
    uint8_t address[16];

    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* One label of a DNS name; *all_digits tells whether it looks like a part of an address. */
static bool is_label(const char *label, size_t size, bool *all_digits)
{
    *all_digits = true;
    if (size == 0 || size > 63 || label[0] == '-' || label[size - 1] == '-') {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (label[i] == '.' || !is_name_char(label[i])) {
            return false;
        }
        *all_digits &= label[i] >= '0' && label[i] <= '9';
    }
    return true;
}

/* A DNS name without wildcards, whose last label is no number (that is an address with an error).
 */
static bool is_dns_name(const char *host)
{
    size_t size = strnlen(host, HOST_MAX_CHARS + 1), at = 0;
    bool all_digits = true;

    if (size == 0 || size > HOST_MAX_CHARS) {
        return false;
    }
    while (at <= size) {
        size_t label = strcspn(host + at, ".");

        if (!is_label(host + at, label, &all_digits)) {
            return false;
        }
        at += label + 1;
    }
    return !all_digits;
}

static bool is_ca_name(const char *name)
{
    size_t size = strnlen(name, NAME_MAX_CHARS + 1);

    if (size == 0 || size > NAME_MAX_CHARS || name[0] == ' ' || name[size - 1] == ' ') {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (name[i] < 0x20 || name[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

/* "Example Logs" to "example-logs": a SPIFFE trust domain. False when nothing is left of it. */
static bool slug_of(const char *name, size_t size, char *slug, size_t slug_size)
{
    size_t at = 0;

    for (size_t i = 0; i < size && at + 2 < slug_size; i++) {
        char c = name[i];

        if (is_letter_or_digit(c)) {
            slug[at++] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
        } else if (at > 0 && slug[at - 1] != '-') {
            slug[at++] = '-';
        }
    }
    while (at > 0 && slug[at - 1] == '-') {
        at--;
    }
    slug[at] = '\0';
    return at > 0;
}

/* ---- files ---------------------------------------------------------------------------------- */

struct paths {
    char key[PATH_MAX_BYTES], cert[PATH_MAX_BYTES];
};

static bool make_paths(const char *folder, const char *name, struct paths *paths)
{
    int key = snprintf(paths->key, sizeof paths->key, "%s/%s.key", folder, name);
    int cert = snprintf(paths->cert, sizeof paths->cert, "%s/%s.pem", folder, name);

    return key > 0 && (size_t)key < sizeof paths->key && cert > 0 &&
           (size_t)cert < sizeof paths->cert;
}

static int create(const char *path, mode_t mode, int *fd)
{
    *fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (*fd >= 0) {
        return TF_EXIT_FINE;
    }
    if (errno == EEXIST) {
        (void)fprintf(stderr,
                      "pki: %s exists, and nothing is overwritten; move it away, or take another "
                      "name\n",
                      path);
        return TF_EXIT_USAGE;
    }
    return fail_file(path, errno, "cannot be made");
}

/* Writes, syncs and closes. */
static int fill(const char *path, int fd, const char *data, size_t size)
{
    int error = 0;

    while (error == 0 && size > 0) {
        ssize_t n = write(fd, data, size);

        if (n > 0) {
            data += n;
            size -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            error = n == 0 ? EIO : errno;
        }
    }
    if (error == 0 && fsync(fd) < 0) {
        error = errno;
    }
    if (close(fd) < 0 && error == 0) {
        error = errno;
    }
    return error == 0 ? TF_EXIT_FINE : fail_file(path, error, "cannot be written");
}

/* Syncs the folder that path is in, so that its name lasts. */
static int sync_folder_of(const char *path)
{
    char folder[PATH_MAX_BYTES];
    const char *slash = strrchr(path, '/');
    int fd, rc = TF_EXIT_FINE;

    (void)snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1,
                   slash == NULL ? "." : path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0) {
        rc = fail_file(folder, errno, "cannot be synced");
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

static int fill_bio(const char *path, int fd, BIO *bio)
{
    char *data = NULL;
    long size = BIO_get_mem_data(bio, &data);

    return fill(path, fd, data, size < 0 ? 0 : (size_t)size);
}

/* Both are made before either is written, so that a name that is taken changes nothing. */
static int write_pair(const struct paths *paths, EVP_PKEY *key, X509 *cert)
{
    BIO *key_text = BIO_new(BIO_s_secmem()), *cert_text = BIO_new(BIO_s_mem());
    int key_fd = -1, cert_fd = -1, rc;

    if (key_text == NULL || cert_text == NULL || PEM_write_bio_X509(cert_text, cert) != 1 ||
        PEM_write_bio_PKCS8PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL) != 1) {
        rc = fail_crypto("key and certificate cannot be encoded");
        goto done;
    }
    rc = create(paths->key, 0600, &key_fd);
    if (rc == TF_EXIT_FINE) {
        rc = create(paths->cert, 0644, &cert_fd);
        if (rc != TF_EXIT_FINE) {
            (void)close(key_fd);
            (void)unlink(paths->key);
        }
    }
    if (rc != TF_EXIT_FINE) {
        goto done;
    }
    rc = fill_bio(paths->key, key_fd, key_text);
    if (rc == TF_EXIT_FINE) {
        rc = fill_bio(paths->cert, cert_fd, cert_text);
    } else {
        (void)close(cert_fd);
    }
    if (rc == TF_EXIT_FINE) {
        rc = sync_folder_of(paths->key);
    }
    if (rc != TF_EXIT_FINE) {
        (void)unlink(paths->cert);
        (void)unlink(paths->key);
    }
done:
    BIO_free(key_text); /* secure memory is wiped when it is freed */
    BIO_free(cert_text);
    return rc;
}

/* Reads a small file whole; secret: no access for others. The caller wipes and frees. */
static int read_small(const char *path, bool secret, char *data, size_t *size)
{
    struct stat st;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0) {
        (void)fail_file(path, errno, "cannot be read; `taffrail pki init` makes a CA");
        return errno == ENOENT ? TF_EXIT_USAGE : TF_EXIT_CANNOT_RUN;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES) {
        (void)close(fd);
        (void)fprintf(stderr, "pki: %s is not a small regular file\n", path);
        return TF_EXIT_USAGE;
    }
    if (secret && (st.st_mode & 077) != 0) {
        (void)close(fd);
        (void)fprintf(stderr, "pki: %s can be reached by others (mode %04o); chmod 0600 it\n", path,
                      (unsigned)st.st_mode & 0777);
        return TF_EXIT_USAGE;
    }
    n = read(fd, data, FILE_MAX_BYTES);
    (void)close(fd);
    if (n < 0) {
        return fail_file(path, errno, "cannot be read");
    }
    *size = (size_t)n;
    return TF_EXIT_FINE;
}

/* ---- certificates --------------------------------------------------------------------------- */

struct ca {
    X509 *cert;
    EVP_PKEY *key;
    char slug[NAME_MAX_CHARS + 8];
};

static void ca_fini(struct ca *ca)
{
    X509_free(ca->cert);
    EVP_PKEY_free(ca->key);
}

/* 127 random bits, positive and not zero (RFC 5280, 4.1.2.2). */
static bool set_serial(X509 *cert)
{
    uint8_t bytes[SERIAL_BYTES];
    BIGNUM *number;
    bool ok;

    if (RAND_bytes(bytes, sizeof bytes) != 1) {
        return false;
    }
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40);
    number = BN_bin2bn(bytes, sizeof bytes, NULL);
    ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return ok;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;
    bool ok;

    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* A certificate without extensions and signature; NULL on failure. */
static X509 *new_cert(EVP_PKEY *key, const char *cn, int days)
{
    X509 *cert = X509_new();
    X509_NAME *subject = X509_NAME_new();
    bool ok;

    ok = cert != NULL && subject != NULL && X509_set_version(cert, X509_VERSION_3) == 1 &&
         set_serial(cert) &&
         X509_gmtime_adj(X509_getm_notBefore(cert), -(long)BACKDATE_S) != NULL &&
         X509_time_adj_ex(X509_getm_notAfter(cert), days, 0, NULL) != NULL &&
         X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                    (const unsigned char *)cn, -1, -1, 0) == 1 &&
         X509_set_subject_name(cert, subject) == 1 && X509_set_pubkey(cert, key) == 1;
    X509_NAME_free(subject);
    if (!ok) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

/* Never asks: an encrypted key is an error. */
static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

static int load_pem(const char *path, bool secret, struct ca *ca)
{
    char *data = calloc(1, FILE_MAX_BYTES);
    size_t size = 0;
    BIO *bio = NULL;
    int rc = data == NULL ? fail_file(path, ENOMEM, "cannot be read")
                          : read_small(path, secret, data, &size);

    if (rc == TF_EXIT_FINE) {
        bio = BIO_new_mem_buf(data, (int)size);
        if (secret) {
            ca->key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
        } else {
            ca->cert = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        }
        if (secret ? ca->key == NULL : ca->cert == NULL) {
            (void)fail_crypto(path);
            rc = refuse("the CA cannot be loaded", "its files are PEM, the key without passphrase");
        }
    }
    BIO_free(bio);
    if (data != NULL) {
        OPENSSL_cleanse(data, FILE_MAX_BYTES);
    }
    free(data);
    return rc;
}

/* The trust domain of its agents: the CA's name without " CA". */
static bool set_slug(struct ca *ca)
{
    char cn[CN_MAX_CHARS + 1];
    int size =
        X509_NAME_get_text_by_NID(X509_get_subject_name(ca->cert), NID_commonName, cn, sizeof cn);

    if (size <= 0) {
        return false;
    }
    if (size > 3 && strcmp(cn + size - 3, " CA") == 0) {
        size -= 3;
    }
    return slug_of(cn, (size_t)size, ca->slug, sizeof ca->slug);
}

static int check_ca(struct ca *ca, const struct paths *paths)
{
    time_t end = time(NULL) + (time_t)LEAF_DAYS * 86400;

    if (X509_check_private_key(ca->cert, ca->key) != 1) {
        (void)fprintf(stderr, "pki: %s is not the key of %s\n", paths->key, paths->cert);
        return TF_EXIT_USAGE;
    }
    if (X509_check_ca(ca->cert) != 1) {
        (void)fprintf(stderr, "pki: %s is no certificate of a CA\n", paths->cert);
        return TF_EXIT_USAGE;
    }
    if (X509_cmp_time(X509_get0_notAfter(ca->cert), &end) <= 0) {
        (void)fprintf(stderr,
                      "pki: %s ends before what it would sign; make a new CA in another folder, "
                      "and let both be trusted for a while\n",
                      paths->cert);
        return TF_EXIT_USAGE;
    }
    return set_slug(ca)
               ? TF_EXIT_FINE
               : refuse("the CA's name holds neither letter nor digit", "make one with --name");
}

static int load_ca(const char *folder, struct ca *ca)
{
    struct paths paths;
    int rc;

    if (!make_paths(folder, "ca", &paths)) {
        return refuse("the folder's name is too long", "take a shorter one");
    }
    rc = load_pem(paths.cert, false, ca);
    if (rc == TF_EXIT_FINE) {
        rc = load_pem(paths.key, true, ca);
    }
    return rc == TF_EXIT_FINE ? check_ca(ca, &paths) : rc;
}

static bool sign_leaf(X509 *cert, const struct ca *ca, const char *san, const char *purpose)
{
    return cert != NULL && X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) == 1 &&
           add_extension(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(cert, ca->cert, NID_key_usage, "critical,digitalSignature") &&
           add_extension(cert, ca->cert, NID_ext_key_usage, purpose) &&
           add_extension(cert, ca->cert, NID_subject_alt_name, san) &&
           add_extension(cert, ca->cert, NID_subject_key_identifier, "hash") &&
           add_extension(cert, ca->cert, NID_authority_key_identifier, "keyid:always") &&
           X509_sign(cert, ca->key, EVP_sha256()) > 0;
}

/* Makes DIR/name.pem and .key; tells with the names in san, which are checked. */
static int make_leaf(const char *folder, const char *name, const struct ca *ca, const char *san,
                     const char *purpose)
{
    const char *cn = strlen(name) <= CN_MAX_CHARS ? name : purpose; /* the names are in san */
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = key == NULL ? NULL : new_cert(key, cn, LEAF_DAYS);
    struct paths paths;
    int rc;

    if (!make_paths(folder, name, &paths)) {
        rc = refuse("the folder's name is too long", "take a shorter one");
    } else if (!sign_leaf(cert, ca, san, purpose)) {
        rc = fail_crypto("the certificate cannot be made");
    } else {
        rc = write_pair(&paths, key, cert);
    }
    if (rc == TF_EXIT_FINE) {
        (void)printf("%s  .key   %s, %s, %d days\n", paths.cert, san, purpose, LEAF_DAYS);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}

/* ---- the verbs ------------------------------------------------------------------------------ */

static void tell_ca(const char *folder, const struct paths *paths, const char *cn, X509 *cert)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;

    (void)printf("%s  ca.key (0600)   CN=%s, EC P-256, 10 years, sha256 ", paths->cert, cn);
    if (X509_digest(cert, EVP_sha256(), digest, &size) == 1) {
        for (unsigned i = 0; i < size; i++) {
            (void)printf("%02x", digest[i]);
        }
    }
    (void)printf("; keep ca.key off the nodes; next: taffrail pki collector %s NAME\n", folder);
}

static int make_ca(const char *name, const char *folder)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = NULL;
    char cn[CN_MAX_CHARS + 1];
    struct paths paths;
    int rc;

    (void)snprintf(cn, sizeof cn, "%s CA", name);
    if (key != NULL) {
        cert = new_cert(key, cn, CA_DAYS);
    }
    if (!make_paths(folder, "ca", &paths)) {
        rc = refuse("the folder's name is too long", "take a shorter one");
    } else if (cert == NULL || X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1 ||
               !add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
               !add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
               !add_extension(cert, cert, NID_subject_key_identifier, "hash") ||
               !add_extension(cert, cert, NID_authority_key_identifier, "keyid:always") ||
               X509_sign(cert, key, EVP_sha256()) <= 0) {
        rc = fail_crypto("the CA cannot be made");
    } else if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
        rc = fail_file(folder, errno, "cannot be made");
    } else {
        rc = write_pair(&paths, key, cert);
    }
    if (rc == TF_EXIT_FINE) {
        tell_ca(folder, &paths, cn, cert);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}

static int pki_init(int argc, char **argv)
{
    const char *name = NULL, *folder = NULL;
    char slug[NAME_MAX_CHARS + 8];

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--name") == 0 && i + 1 < argc && name == NULL) {
            name = argv[++i];
        } else if (argv[i][0] != '-' && folder == NULL) {
            folder = argv[i];
        } else {
            return bad_usage("init takes --name NAME and one folder");
        }
    }
    if (name == NULL || folder == NULL) {
        return bad_usage("init wants --name NAME and a folder");
    }
    if (!is_ca_name(name) || !slug_of(name, strlen(name), slug, sizeof slug)) {
        return refuse("--name is 1 to 60 printable ASCII characters with a letter or digit, and "
                      "no blank at its ends",
                      "an organisation's name, such as \"Example Logs\"");
    }
    return make_ca(name, folder);
}

/* "DNS:a, IP:b" of checked hosts. */
static int list_hosts(char **hosts, int count, struct tf_buf *san)
{
    tf_buf_init(san, SAN_MAX_BYTES);
    for (int i = 0; i < count; i++) {
        bool ip = is_ip(hosts[i]);

        if (!ip && !is_dns_name(hosts[i])) {
            (void)fprintf(stderr, "pki: host %d of %d is neither a DNS name nor an IP address; ",
                          i + 1, count);
            (void)fputs("letters, digits, dot, hyphen, underscore; no wildcard, no port\n", stderr);
            return TF_EXIT_USAGE;
        }
        (void)tf_buf_printf(san, "%s%s:%s", i > 0 ? ", " : "", ip ? "IP" : "DNS", hosts[i]);
    }
    (void)tf_buf_append_byte(san, 0);
    return san->error == 0 ? TF_EXIT_FINE : refuse("the names are too long", "take fewer");
}

static int pki_collector(int argc, char **argv)
{
    struct ca ca = {0};
    struct tf_buf san = {0};
    int rc;

    if (argc < 3 || argv[1][0] == '-') {
        return bad_usage("collector wants the CA's folder and the names it is called by");
    }
    if (argc - 2 > HOSTS_MAX) {
        return refuse("at most 64 names fit", "make several certificates");
    }
    rc = list_hosts(argv + 2, argc - 2, &san);
    if (rc == TF_EXIT_FINE) {
        rc = load_ca(argv[1], &ca);
    }
    if (rc == TF_EXIT_FINE) {
        rc = make_leaf(argv[1], argv[2], &ca, san.data, "serverAuth");
    }
    ca_fini(&ca);
    tf_buf_fini(&san);
    return rc;
}

static int pki_agent(int argc, char **argv)
{
    struct ca ca = {0};
    char san[256];
    int rc;

    if (argc != 3 || argv[1][0] == '-') {
        return bad_usage("agent wants the CA's folder and the node's name");
    }
    if (!is_node(argv[2])) {
        return refuse("a node's name is 1 to 63 letters, digits, dots, hyphens and underscores, "
                      "the first a letter or digit",
                      "the host's name is usual");
    }
    rc = load_ca(argv[1], &ca);
    if (rc == TF_EXIT_FINE) {
        (void)snprintf(san, sizeof san, "URI:spiffe://%s/node/%s", ca.slug, argv[2]);
        rc = make_leaf(argv[1], argv[2], &ca, san, "clientAuth");
    }
    ca_fini(&ca);
    return rc;
}

/* The prefix, base64 of a new key and a newline into text; the caller wipes it. */
static int make_secret_key(const char *prefix, struct tf_buf *text)
{
    uint8_t key[KEY_BYTES];
    int rc = RAND_priv_bytes(key, sizeof key) == 1 ? 0 : -EIO;

    if (rc == 0 && tf_buf_reserve(text, 128) == 0) { /* so that it never moves */
        (void)tf_buf_append_text(text, prefix);
        (void)tf_base64_append(text, key, sizeof key);
        (void)tf_buf_append_byte(text, '\n');
    }
    OPENSSL_cleanse(key, sizeof key);
    return rc < 0 || text->error < 0 ? fail_crypto("the key cannot be made") : TF_EXIT_FINE;
}

/* Makes the file with a key of that prefix; nothing is left of it when that fails. */
static int write_secret_key(const char *path, const char *prefix)
{
    struct tf_buf text;
    int fd = -1, rc;

    if (strlen(path) >= PATH_MAX_BYTES) {
        return refuse("the file's name is too long", "take a shorter one");
    }
    tf_buf_init(&text, 256);
    rc = make_secret_key(prefix, &text);
    if (rc == TF_EXIT_FINE) {
        rc = create(path, 0600, &fd);
    }
    if (rc == TF_EXIT_FINE) {
        rc = fill(path, fd, text.data, text.size);
        if (rc == TF_EXIT_FINE) {
            rc = sync_folder_of(path);
        }
        if (rc != TF_EXIT_FINE) {
            (void)unlink(path);
        }
    }
    if (text.data != NULL) {
        OPENSSL_cleanse(text.data, text.capacity);
    }
    tf_buf_fini(&text);
    return rc;
}

static int pki_spool(int argc, char **argv)
{
    int rc;

    if (argc != 2 || argv[1][0] == '-') {
        return bad_usage("spool wants the name of the file to make");
    }
    rc = write_secret_key(argv[1], SPOOL_PREFIX);
    if (rc == TF_EXIT_FINE) {
        (void)printf("%s (0600)   spool key; name it first in spool.keys, and keep a copy off the "
                     "machine: without it the spool cannot be read\n",
                     argv[1]);
    }
    return rc;
}

static int pki_hash(int argc, char **argv)
{
    int rc;

    if (argc != 2 || argv[1][0] == '-') {
        return bad_usage("hash wants the name of the file to make");
    }
    rc = write_secret_key(argv[1], HASH_PREFIX);
    if (rc == TF_EXIT_FINE) {
        (void)printf(
            "%s (0600)   hash key; name it in redact.hash_key, the same on all nodes whose "
            "marks are compared\n",
            argv[1]);
    }
    return rc;
}

/* Paths are told in messages: no control characters, so that they stay on their line. */
static bool are_plain(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        for (const char *byte = argv[i]; *byte != '\0'; byte++) {
            if ((unsigned char)*byte < 0x20 || *byte == 0x7f) {
                return false;
            }
        }
    }
    return true;
}

int tf_command_pki(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } verbs[] = {{"init", pki_init},   {"collector", pki_collector}, {"agent", pki_agent},
                 {"spool", pki_spool}, {"hash", pki_hash},           {"seal", tf_command_pki_seal}};
    int rc;

    for (int i = 1; i < argc && (i == 1 || strcmp(argv[1], "seal") != 0); i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(usage, stdout);
            return TF_EXIT_FINE;
        }
    }
    if (argc < 2) {
        return bad_usage("say what to make");
    }
    if (!are_plain(argc, argv)) {
        return refuse("an argument holds control characters", "names and paths are plain text");
    }
    for (size_t i = 0; i < TF_COUNT(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name) == 0) {
            rc = verbs[i].run(argc - 1, argv + 1);
            if (rc == TF_EXIT_FINE && fflush(stdout) != 0) {
                return fail_file("stdout", errno, "the files are made, the summary is not told");
            }
            return rc;
        }
    }
    return bad_usage("there is no such verb");
}
