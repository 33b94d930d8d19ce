/*
 * tls_fixture.h - authorities and certificates of any kind, made in the test, and their PEM files.
 *
 * Certificates are cheap (EC P-256) and live in a folder of their own under /tmp. All functions
 * assert; nothing here returns an error. Include after cmocka.h.
 */
#ifndef TAFFRAIL_TESTS_TLS_FIXTURE_H
#define TAFFRAIL_TESTS_TLS_FIXTURE_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "taffrail/tls.h"

#define TLS_FIXTURE_PATHS_MAX 64u

struct tls_cert {
    X509 *cert;
    EVP_PKEY *key;
};

/* What a certificate shall be; zeroed members take the default in brackets. */
struct tls_cert_options {
    const char *name;              /* the CN ["test"] */
    const char *san;               /* as in openssl.cnf: "DNS:a,IP:127.0.0.1,URI:x:y" [none] */
    const char *usage;             /* extended: "serverAuth,clientAuth" [none] */
    const char *digest;            /* ["SHA256"] */
    int from_days;                 /* from today [-1] */
    int until_days;                /* from today [30] */
    int rsa_bits;                  /* an RSA key of so many bits [EC P-256] */
    const char *curve;             /* of an EC key, or "ED25519" for a subject ["P-256"] */
    bool is_ca;                    /* [a leaf] */
    const struct tls_cert *issuer; /* [itself] */
};

/* A folder and the paths of the files in it. */
struct tls_fixture {
    char folder[32];
    char *paths[TLS_FIXTURE_PATHS_MAX]; /* owned */
    size_t path_count;
};

static inline void tls_fixture_init(struct tls_fixture *f)
{
    memset(f, 0, sizeof *f);
    (void)snprintf(f->folder, sizeof f->folder, "/tmp/taffrail-tls-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
}

static inline void tls_fixture_fini(struct tls_fixture *f)
{
    for (size_t i = 0; i < f->path_count; i++) {
        (void)unlink(f->paths[i]);
        free(f->paths[i]);
    }
    assert_int_equal(rmdir(f->folder), 0);
}

/* A path in the folder, which lives as long as the fixture; the file goes with it. */
static inline const char *tls_fixture_path(struct tls_fixture *f, const char *name)
{
    char *path = NULL;

    assert_true(f->path_count < TLS_FIXTURE_PATHS_MAX);
    assert_true(asprintf(&path, "%s/%s", f->folder, name) > 0);
    f->paths[f->path_count++] = path;
    return path;
}

static inline void tls_cert_extend(struct tls_cert *made, const struct tls_cert *issuer, int nid,
                                   const char *value)
{
    X509_EXTENSION *extension;
    X509V3_CTX ctx;

    if (value == NULL) {
        return;
    }
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer->cert, made->cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(made->cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static inline EVP_PKEY *tls_key_make(const struct tls_cert_options *options)
{
    if (options->rsa_bits != 0) {
        return EVP_RSA_gen((unsigned)options->rsa_bits);
    }
    if (options->curve != NULL && strcmp(options->curve, "ED25519") == 0) {
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    }
    return EVP_EC_gen(options->curve != NULL ? options->curve : "P-256");
}

/* Makes a key and a certificate for it; to be freed with tls_cert_free. */
static inline struct tls_cert tls_cert_make(const struct tls_cert_options *options)
{
    static long serial = 1;
    const char *name = options->name != NULL ? options->name : "test";
    const char *digest = options->digest != NULL ? options->digest : "SHA256";
    int from = options->from_days != 0 ? options->from_days : -1;
    int until = options->until_days != 0 ? options->until_days : 30;
    struct tls_cert made = {.cert = X509_new()};
    const struct tls_cert *issuer = options->issuer != NULL ? options->issuer : &made;

    made.key = tls_key_make(options);
    assert_non_null(made.cert);
    assert_non_null(made.key);
    assert_int_equal(X509_set_version(made.cert, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(made.cert), serial++), 1);
    assert_non_null(X509_time_adj_ex(X509_getm_notBefore(made.cert), from, 0, NULL));
    assert_non_null(X509_time_adj_ex(X509_getm_notAfter(made.cert), until, 0, NULL));
    assert_int_equal(X509_set_pubkey(made.cert, made.key), 1);
    assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(made.cert), "CN",
                                                MBSTRING_ASC, (const unsigned char *)name, -1, -1,
                                                0),
                     1);
    assert_int_equal(X509_set_issuer_name(made.cert, X509_get_subject_name(issuer->cert)), 1);
    tls_cert_extend(&made, issuer, NID_basic_constraints,
                    options->is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    tls_cert_extend(&made, issuer, NID_key_usage,
                    options->is_ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
    tls_cert_extend(&made, issuer, NID_ext_key_usage, options->usage);
    tls_cert_extend(&made, issuer, NID_subject_alt_name, options->san);
    assert_true(X509_sign(made.cert, issuer->key, EVP_get_digestbyname(digest)) > 0);
    return made;
}

static inline struct tls_cert tls_ca_make(const char *name)
{
    return tls_cert_make(&(struct tls_cert_options){.name = name, .is_ca = true});
}

static inline void tls_cert_free(struct tls_cert *cert)
{
    X509_free(cert->cert);
    EVP_PKEY_free(cert->key);
    *cert = (struct tls_cert){0};
}

static inline FILE *tls_fixture_create(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file;

    assert_true(fd >= 0);
    file = fdopen(fd, "w");
    assert_non_null(file);
    return file;
}

/* Writes FOLDER/NAME with the certificates, one behind the other, mode 0600; returns its path. */
static inline const char *tls_fixture_write_certs(struct tls_fixture *f, const char *name,
                                                  const struct tls_cert *certs, size_t count)
{
    const char *path = tls_fixture_path(f, name);
    FILE *file = tls_fixture_create(path);

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(PEM_write_X509(file, certs[i].cert), 1);
    }
    assert_int_equal(fclose(file), 0);
    return path;
}

/* Writes FOLDER/NAME with the private key, mode 0600; returns its path. */
static inline const char *tls_fixture_write_key(struct tls_fixture *f, const char *name,
                                                const struct tls_cert *cert)
{
    const char *path = tls_fixture_path(f, name);
    FILE *file = tls_fixture_create(path);

    assert_int_equal(PEM_write_PrivateKey(file, cert->key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
    return path;
}

/* Writes NAME-ca.pem, NAME.pem and NAME.key and names them in options, for TLS 1.3. */
static inline void tls_fixture_options(struct tls_fixture *f, const char *name,
                                       const struct tls_cert *ca, const struct tls_cert *cert,
                                       struct tf_tls_options *options)
{
    char file[64];

    *options = (struct tf_tls_options){0};
    (void)snprintf(file, sizeof file, "%s-ca.pem", name);
    options->ca.text = tls_fixture_write_certs(f, file, ca, 1);
    (void)snprintf(file, sizeof file, "%s.pem", name);
    options->cert.text = tls_fixture_write_certs(f, file, cert, 1);
    (void)snprintf(file, sizeof file, "%s.key", name);
    options->key.text = tls_fixture_write_key(f, file, cert);
}

#endif
