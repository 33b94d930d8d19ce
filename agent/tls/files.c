/*
 * files.c - reads and checks ca, cert and key, so that what a peer would refuse is told at the
 * start.
 *
 * A file is opened once, judged by its descriptor, and read whole (1 MiB at most). Every finding
 * has the option's place and names the file, the subject and the dates. The checks go on after an
 * error, so that one run tells all of them. Key text is wiped after parsing.
 *
 *     ca     certificates of authorities: each CA:TRUE, strong enough; one at least in date
 *     cert   leaf first, then intermediates: in date, strong enough, carries its key usage
 *     key    PEM without passphrase, private (secret.c), the key of the leaf
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define SECONDS_A_DAY  86400
#define WARN_DAYS      14
#define KEY_DIGITS     7u /* six hex digits of the key's digest, and NUL */
#define KEY_KIND_BYTES 32u
#define WHY_BYTES      (TF_LINK_REASON_MAX + 1)

struct loader {
    SSL_CTX *ctx;
    bool is_server;
    struct tf_tls_files *files; /* NULL: what is loaded is not noted */
    struct tf_error *err;
    time_t now;
};

/* One of the three files: what its option is called, what was written, and what it holds. */
struct pem_file {
    const char *option; /* "tls.ca" */
    const struct tf_text *path;
    char *text;
    size_t size;
};

/* ---- reading -------------------------------------------------------------------------------- */

static int read_whole(int fd, struct pem_file *file)
{
    size_t size = 0;

    file->text = malloc(TF_TLS_FILE_MAX_BYTES + 1);
    if (file->text == NULL) {
        return -ENOMEM;
    }
    while (size <= TF_TLS_FILE_MAX_BYTES) {
        ssize_t n = read(fd, file->text + size, TF_TLS_FILE_MAX_BYTES + 1 - size);

        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            file->size = size;
            return 0;
        }
        size += (size_t)n;
    }
    return -EFBIG;
}

static void drop_text(struct pem_file *file)
{
    if (file->text != NULL) {
        OPENSSL_cleanse(file->text, TF_TLS_FILE_MAX_BYTES + 1);
        free(file->text);
        file->text = NULL;
    }
}

static int open_file(const struct loader *loader, struct pem_file *file, bool secret)
{
    const struct tf_place *at = &file->path->at;
    char option[32], why[128];
    struct stat st;
    int rc = 0, fd = -1;

    (void)snprintf(option, sizeof option, "%s: ", file->option);
    if (file->path->text == NULL) {
        return tf_error_add(loader->err, at, "%sis missing; TLS needs ca, cert and key", option);
    }
    fd = open(file->path->text, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        (void)uv_strerror_r(-errno, why, sizeof why);
        rc = tf_error_add(loader->err, at, "%s%s cannot be opened: %s", option, file->path->text,
                          why);
    } else if (secret) {
        rc = tf_secret_check_option(fd, option, file->path->text, at, loader->err);
    } else if (!S_ISREG(st.st_mode)) {
        rc = tf_error_add(loader->err, at, "%s%s is not a regular file", option, file->path->text);
    }
    if (rc == 0 && loader->files != NULL) {
        rc = tf_tls_files_add(loader->files, file->path->text, &st);
    }
    if (rc == 0) {
        rc = read_whole(fd, file);
        if (rc < 0) {
            (void)uv_strerror_r(rc, why, sizeof why);
            rc = tf_error_add(loader->err, at, "%s%s cannot be read: %s", option, file->path->text,
                              why);
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

/* The oldest entry of OpenSSL's queue as text; the queue is empty afterwards. */
static const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_get_error());

    ERR_clear_error();
    return reason != NULL ? reason : "unknown reason";
}

/* All certificates of a PEM file, new; NULL: told to err. */
static STACK_OF(X509) * read_certs(const struct loader *loader, const struct pem_file *file)
{
    BIO *bio = BIO_new_mem_buf(file->text, (int)file->size);
    STACK_OF(X509) *certs = sk_X509_new_null();
    X509 *cert = NULL;
    bool sound = bio != NULL && certs != NULL;

    ERR_clear_error();
    while (sound && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        sound = sk_X509_num(certs) < (int)TF_TLS_CERTS_MAX && sk_X509_push(certs, cert) > 0;
        if (!sound) {
            X509_free(cert);
        }
    }
    if (sound && sk_X509_num(certs) > 0 &&
        ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) {
        ERR_clear_error(); /* the end of the file */
    } else {
        (void)tf_error_add(loader->err, &file->path->at,
                           "%s: %s is not a list of PEM certificates (%s); it begins with "
                           "-----BEGIN CERTIFICATE-----, and has %u at most",
                           file->option, file->path->text, openssl_reason(), TF_TLS_CERTS_MAX);
        sk_X509_pop_free(certs, X509_free);
        certs = NULL;
    }
    BIO_free(bio);
    return certs;
}

/* ---- checks --------------------------------------------------------------------------------- */

/* "CN=node-7, issued by CN=Example Root" */
static void describe(X509 *cert, char text[WHY_BYTES])
{
    char subject[TF_TLS_NAME_BYTES], issuer[TF_TLS_NAME_BYTES];

    tf_cert_name(X509_get_subject_name(cert), subject);
    tf_cert_name(X509_get_issuer_name(cert), issuer);
    (void)snprintf(text, WHY_BYTES, "%.100s, issued by %.100s", subject, issuer);
}

/* Days from now until time, rounded towards zero; *later tells the side. */
static int days_until(time_t now, const ASN1_TIME *time, bool *later)
{
    ASN1_TIME *clock = ASN1_TIME_set(NULL, now);
    int days = 0, seconds = 0;

    *later = clock != NULL && ASN1_TIME_diff(&days, &seconds, clock, time) == 1 &&
             (days > 0 || seconds > 0);
    ASN1_TIME_free(clock);
    return days < 0 ? -days : days;
}

static void clock_date(time_t now, char text[TF_TLS_DATE_BYTES])
{
    ASN1_TIME *clock = ASN1_TIME_set(NULL, now);

    text[0] = '\0';
    if (clock != NULL) {
        tf_cert_date(clock, text);
    }
    ASN1_TIME_free(clock);
}

static const char *days_text(int days, char text[TF_COUNTED_TEXT_BYTES])
{
    return tf_counted_text((uint64_t)days, "day", text);
}

static int check_dates(const struct loader *loader, const struct pem_file *file, X509 *cert)
{
    char who[WHY_BYTES], date[TF_TLS_DATE_BYTES], today[TF_TLS_DATE_BYTES];
    char days[TF_COUNTED_TEXT_BYTES];
    bool begins_later, ends_later;
    int days_to_begin = days_until(loader->now, X509_get0_notBefore(cert), &begins_later);
    int days_to_end = days_until(loader->now, X509_get0_notAfter(cert), &ends_later);

    describe(cert, who);
    clock_date(loader->now, today);
    if (begins_later) {
        tf_cert_date(X509_get0_notBefore(cert), date);
        return tf_error_add(loader->err, &file->path->at,
                            "%s: %s (%s) is valid from %s only, in %s; look at the clock (it "
                            "says %s)",
                            file->option, file->path->text, who, date,
                            days_text(days_to_begin, days), today);
    }
    tf_cert_date(X509_get0_notAfter(cert), date);
    if (!ends_later) {
        return tf_error_add(loader->err, &file->path->at,
                            "%s: %s (%s) expired on %s, %s ago; renew it (the clock says %s)",
                            file->option, file->path->text, who, date, days_text(days_to_end, days),
                            today);
    }
    if (days_to_end < WARN_DAYS) {
        tf_warning_add(loader->err, &file->path->at, "%s: %s (%s) expires on %s, in %s",
                       file->option, file->path->text, who, date, days_text(days_to_end, days));
    }
    return 0;
}

static int check_strength(const struct loader *loader, const struct pem_file *file, X509 *cert)
{
    char who[WHY_BYTES], why[WHY_BYTES];

    if (tf_cert_strength(cert, why) == 0) {
        return 0;
    }
    describe(cert, who);
    return tf_error_add(loader->err, &file->path->at, "%s: %s (%s) %s", file->option,
                        file->path->text, who, why);
}

static int check_usage(const struct loader *loader, const struct pem_file *file, X509 *leaf)
{
    char who[WHY_BYTES], why[WHY_BYTES], identity[TF_IDENTITY_MAX + 1];

    if (!tf_cert_has_usage(leaf, loader->is_server)) {
        describe(leaf, who);
        return tf_error_add(loader->err, &file->path->at,
                            "%s: %s (%s) lacks the extended key usage %s, so the other end would "
                            "refuse it; request it again with that",
                            file->option, file->path->text, who,
                            loader->is_server ? "serverAuth" : "clientAuth");
    }
    if (!loader->is_server && tf_identity_of_client(leaf, identity, why) < 0) {
        describe(leaf, who);
        tf_warning_add(loader->err, &file->path->at,
                       "%s: %s (%s) proves no identity to a taffrail collector: %s", file->option,
                       file->path->text, who, why);
    }
    return 0;
}

/* ---- the three files ------------------------------------------------------------------------ */

/* An authority that cannot be used is told; the others still count. */
static int add_authority(const struct loader *loader, const struct pem_file *file, X509 *cert,
                         int *usable)
{
    char who[WHY_BYTES];
    bool ends_later;

    if (X509_check_ca(cert) != 1) {
        describe(cert, who);
        return tf_error_add(loader->err, &file->path->at,
                            "%s: %s (%s) is no certificate of an authority (no CA:TRUE)",
                            file->option, file->path->text, who);
    }
    if (check_strength(loader, file, cert) < 0) {
        return -EINVAL;
    }
    (void)days_until(loader->now, X509_get0_notAfter(cert), &ends_later);
    if (ends_later) {
        (*usable)++;
    } else {
        char date[TF_TLS_DATE_BYTES];

        describe(cert, who);
        tf_cert_date(X509_get0_notAfter(cert), date);
        tf_warning_add(loader->err, &file->path->at, "%s: %s (%s) expired on %s; take it out",
                       file->option, file->path->text, who, date);
    }
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(loader->ctx), cert) != 1) {
        return tf_error_add(loader->err, &file->path->at, "%s: %s cannot be used: %s", file->option,
                            file->path->text, openssl_reason());
    }
    return loader->is_server ? SSL_CTX_add_client_CA(loader->ctx, cert) == 1 ? 0 : -ENOMEM : 0;
}

static int load_authorities(const struct loader *loader, struct pem_file *file)
{
    STACK_OF(X509) *certs = NULL;
    int usable = 0, rc = open_file(loader, file, false);

    if (rc < 0) {
        return rc;
    }
    certs = read_certs(loader, file);
    for (int i = 0; i < sk_X509_num(certs); i++) {
        int added = add_authority(loader, file, sk_X509_value(certs, i), &usable);

        rc = rc < 0 ? rc : added;
    }
    if (certs == NULL) {
        rc = -EINVAL;
    } else if (rc == 0 && usable == 0) {
        rc = tf_error_add(loader->err, &file->path->at,
                          "%s: every authority in %s has expired; no certificate could be trusted",
                          file->option, file->path->text);
    }
    sk_X509_pop_free(certs, X509_free);
    return rc;
}

/* *leaf is the first certificate, new, also when checks failed, so that the key can be compared. */
static int load_certificate(const struct loader *loader, struct pem_file *file, X509 **leaf)
{
    STACK_OF(X509) *certs = NULL;
    int rc = open_file(loader, file, false);

    if (rc < 0) {
        return rc;
    }
    certs = read_certs(loader, file);
    if (certs == NULL) {
        return -EINVAL;
    }
    for (int i = 0; i < sk_X509_num(certs); i++) {
        int dates = check_dates(loader, file, sk_X509_value(certs, i));
        int strength = check_strength(loader, file, sk_X509_value(certs, i));

        rc = rc < 0 ? rc : dates < 0 ? dates : strength;
    }
    *leaf = sk_X509_shift(certs);
    if (check_usage(loader, file, *leaf) < 0) {
        rc = -EINVAL;
    }
    if (rc == 0 && (SSL_CTX_use_certificate(loader->ctx, *leaf) != 1 ||
                    SSL_CTX_set1_chain(loader->ctx, certs) != 1)) {
        rc = tf_error_add(loader->err, &file->path->at, "%s: %s cannot be used: %s", file->option,
                          file->path->text, openssl_reason());
    }
    sk_X509_pop_free(certs, X509_free);
    return rc;
}

/* No passphrase is asked for; *arg notes that one was needed. */
static int on_passphrase(char *text, int size, int writing, void *arg)
{
    bool *needed = arg;

    (void)text;
    (void)size;
    (void)writing;
    *needed = true;
    return -1;
}

static EVP_PKEY *read_key(const struct loader *loader, struct pem_file *file)
{
    BIO *bio = BIO_new_mem_buf(file->text, (int)file->size);
    bool needs_passphrase = false;
    EVP_PKEY *key = NULL;

    ERR_clear_error();
    if (bio != NULL) {
        key = PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &needs_passphrase);
    }
    if (key == NULL && needs_passphrase) {
        (void)tf_error_add(loader->err, &file->path->at,
                           "%s: %s wants a passphrase; store the key without one, mode 0600",
                           file->option, file->path->text);
    } else if (key == NULL) {
        (void)tf_error_add(loader->err, &file->path->at,
                           "%s: %s is not a private key in PEM (%s); it begins with -----BEGIN "
                           "PRIVATE KEY-----",
                           file->option, file->path->text, openssl_reason());
    }
    ERR_clear_error();
    BIO_free(bio);
    return key;
}

static void key_digits(EVP_PKEY *key, char digits[KEY_DIGITS])
{
    uint8_t digest[TF_SHA256_BYTES] = {0};

    (void)tf_spki_digest(key, digest);
    (void)snprintf(digits, KEY_DIGITS, "%02x%02x%02x", digest[0], digest[1], digest[2]);
}

/* "EC P-256", "RSA 2048", "ED25519" */
static void key_kind(EVP_PKEY *key, char text[KEY_KIND_BYTES])
{
    const char *name = EVP_PKEY_get0_type_name(key);

    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
        (void)snprintf(text, KEY_KIND_BYTES, "EC P-%d", EVP_PKEY_get_bits(key));
    } else if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        (void)snprintf(text, KEY_KIND_BYTES, "RSA %d", EVP_PKEY_get_bits(key));
    } else {
        (void)snprintf(text, KEY_KIND_BYTES, "%.31s", name != NULL ? name : "unknown");
    }
}

static int match_key(const struct loader *loader, const struct pem_file *file,
                     const char *cert_path, X509 *leaf, EVP_PKEY *key)
{
    char ours[KEY_DIGITS], theirs[KEY_DIGITS] = "none", kind[KEY_KIND_BYTES];
    EVP_PKEY *wanted = X509_get0_pubkey(leaf);

    if (wanted != NULL && EVP_PKEY_eq(wanted, key) == 1) {
        return 0;
    }
    ERR_clear_error();
    if (wanted != NULL) {
        key_digits(wanted, theirs);
    }
    key_digits(key, ours);
    key_kind(key, kind);
    return tf_error_add(loader->err, &file->path->at,
                        "%s: %s (%s %s) is not the key of %s (%s); take the one that the request "
                        "was made with",
                        file->option, file->path->text, kind, ours, cert_path, theirs);
}

/* leaf: NULL when the certificate could not be read; then the key is still looked at. */
static int load_key(const struct loader *loader, struct pem_file *file, const char *cert_path,
                    X509 *leaf)
{
    int rc = open_file(loader, file, true);
    EVP_PKEY *key = NULL;

    if (rc < 0) {
        return rc;
    }
    key = read_key(loader, file);
    if (key == NULL) {
        return -EINVAL;
    }
    if (leaf != NULL) {
        rc = match_key(loader, file, cert_path, leaf, key);
    }
    if (rc == 0 && SSL_CTX_use_PrivateKey(loader->ctx, key) != 1) {
        rc = tf_error_add(loader->err, &file->path->at, "%s: %s cannot be used: %s", file->option,
                          file->path->text, openssl_reason());
    }
    EVP_PKEY_free(key);
    return rc;
}

int tf_tls_load_files(SSL_CTX *ctx, const struct tf_tls_options *options, bool is_server,
                      struct tf_tls_files *files, struct tf_error *err)
{
    struct loader loader = {
        .ctx = ctx, .is_server = is_server, .files = files, .err = err, .now = time(NULL)};
    struct pem_file ca = {.option = "tls.ca", .path = &options->ca};
    struct pem_file cert = {.option = "tls.cert", .path = &options->cert};
    struct pem_file key = {.option = "tls.key", .path = &options->key};
    X509 *leaf = NULL;
    int ca_rc = load_authorities(&loader, &ca);
    int cert_rc = load_certificate(&loader, &cert, &leaf);
    int key_rc = load_key(&loader, &key, options->cert.text, leaf);

    drop_text(&ca);
    drop_text(&cert);
    drop_text(&key);
    X509_free(leaf);
    return ca_rc < 0 ? ca_rc : cert_rc < 0 ? cert_rc : key_rc;
}
