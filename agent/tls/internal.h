/*
 * internal.h - what the files of the TLS room share: one endpoint's settings, what a peer must
 * prove, and small readers of certificates.
 */
#ifndef TAFFRAIL_TLS_INTERNAL_H
#define TAFFRAIL_TLS_INTERNAL_H

#include <sys/stat.h>

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "taffrail/tls.h"

#define TF_TLS_DEPTH_MAX      4
#define TF_TLS_CERT_LIST_MAX  (64 * 1024)
#define TF_TLS_RSA_BITS_MIN   2048
#define TF_TLS_EC_BITS_MIN    256
#define TF_TLS_IDENTITIES_MAX 32u
#define TF_TLS_FILE_MAX_BYTES (1u << 20)
#define TF_TLS_CERTS_MAX      256u /* in one file */
#define TF_TLS_NAME_BYTES     128u /* a subject or issuer as text, cut */
#define TF_TLS_DATE_BYTES     11u  /* "2026-11-02" */
#define TF_SHA256_BYTES       32u

/* One thing that a server may prove to be let in by a client. */
enum tf_want_kind { TF_WANT_DNS, TF_WANT_IP, TF_WANT_URI, TF_WANT_PIN };
struct tf_want {
    enum tf_want_kind kind;
    char text[TF_IDENTITY_MAX + 1]; /* with its scheme: dns:, ip:, spki:sha256/, or a URI */
    uint8_t bytes[TF_SHA256_BYTES]; /* of an address (4 or 16) or a pin (32) */
    size_t byte_count;
};

struct tf_tls {
    SSL_CTX *ctx;
    unsigned refs;
    bool is_server;
    int min_version;       /* TLS1_3_VERSION or TLS1_2_VERSION */
    char *ca_path;         /* for reasons */
    struct tf_want *wants; /* of options.identity; none: the host called */
    size_t want_count;
};

/* One connection's other end; verify_chain finds it as the SSL's app data and fills the rest. */
struct tf_peer {
    const struct tf_tls *tls;
    struct tf_want host; /* clients; used when tls->want_count is 0 */
    char identity[TF_IDENTITY_MAX + 1];
    char reason[TF_LINK_REASON_MAX + 1]; /* why the certificate was refused, or "" */
    enum tf_link_step step;
    X509 *leaf;       /* what it showed, a reference; NULL: nothing yet */
    int chain_count;  /* certificates that it sent */
    uint64_t seen_ns; /* when, by uv_hrtime */
};

/* ---- context.c ------------------------------------------------------------------------------ */

void tf_tls_ref(struct tf_tls *tls);

/* ---- identity.c ----------------------------------------------------------------------------- */

/* Reads an entry of tls.identity. Returns 0 or -EINVAL with a sentence in why. */
int tf_want_parse(const char *text, struct tf_want *want, char why[TF_LINK_REASON_MAX + 1]);

/* A host as called: an IP literal, or a DNS name. -EINVAL: neither. */
int tf_want_host(const char *host, struct tf_want *want);

/* The identity of a client: its one URI SAN, else dns: and its one DNS SAN. -EACCES: none such, why
 * says so. */
int tf_identity_of_client(X509 *cert, char identity[TF_IDENTITY_MAX + 1],
                          char why[TF_LINK_REASON_MAX + 1]);

/* True when the certificate proves what is wanted; by name never from the CN. */
bool tf_want_holds(const struct tf_want *want, X509 *cert);

/* The one URI SAN of cert, if it has exactly one and that is a sound identity. */
bool tf_identity_uri(X509 *cert, char identity[TF_IDENTITY_MAX + 1]);

/* Names that a certificate proves, "DNS:a, URI:b", cut to size; "no name" when there are none. */
void tf_identity_list(X509 *cert, char *text, size_t size);

/* SHA-256 of the DER SubjectPublicKeyInfo. */
int tf_spki_digest(EVP_PKEY *key, uint8_t digest[TF_SHA256_BYTES]);

/* ---- verify.c ------------------------------------------------------------------------------- */

/* For SSL_CTX_set_cert_verify_callback: chain, strength, key usage, identity. */
int tf_tls_verify(X509_STORE_CTX *store, void *arg);

/* Fits a key and a signature into the rules: 0, or -EINVAL with "has an RSA key of 1024 bits; ..."
 * in why. The signature of a root counts for nothing and is not looked at. */
int tf_cert_strength(X509 *cert, char why[TF_LINK_REASON_MAX + 1]);

/* True when the certificate carries serverAuth or clientAuth as such. */
bool tf_cert_has_usage(X509 *cert, bool as_server);

void tf_cert_name(const X509_NAME *name, char text[TF_TLS_NAME_BYTES]);
void tf_cert_date(const ASN1_TIME *time, char text[TF_TLS_DATE_BYTES]);

/* What the other end showed, as tf_link_facts has it. */
void tf_peer_describe(const struct tf_peer *peer, char text[TF_LINK_REASON_MAX + 1]);

/* ---- files.c -------------------------------------------------------------------------------- */

/* Puts the three files of options into ctx, after checking them, and notes them in files (NULL:
 * nowhere). Findings go to err. */
int tf_tls_load_files(SSL_CTX *ctx, const struct tf_tls_options *options, bool is_server,
                      struct tf_tls_files *files, struct tf_error *err);

/* ---- watch.c -------------------------------------------------------------------------------- */

/* Notes a file that is loaded: its path (copied), and what its open descriptor tells. 0 or -ENOMEM.
 */
int tf_tls_files_add(struct tf_tls_files *files, const char *path, const struct stat *st);

/* One look in its three steps: what is there now, on a worker; the path of one that has changed, or
 * NULL; and that its change was told. */
void tf_tls_files_look(struct tf_tls_files *files);
const char *tf_tls_files_judge(struct tf_tls_files *files);
void tf_tls_files_take(struct tf_tls_files *files);

/* ---- secret.c ------------------------------------------------------------------------------- */

/* tf_secret_file_check with the option's name in front, such as "tls.key: ". */
int tf_secret_check_option(int fd, const char *option, const char *path, const struct tf_place *at,
                           struct tf_error *err);

#endif
