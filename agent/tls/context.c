/*
 * context.c - the immutable settings of one endpoint: an SSL_CTX, what the other end must prove.
 *
 * Client and server get the same settings from one function: TLS 1.3, or by name also 1.2 with
 * ECDHE and AEAD only; security level 2; X25519, P-256, P-384; no compression, no renegotiation, no
 * early data, no tickets and no session cache, since a resumed session skips verification; both
 * ends verified against the configured authorities only, never the system's. A reload builds
 * another; the old one lives until its last link is gone.
 * Not here: the files (files.c), the verdict on a peer (verify.c).
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/err.h>

#define GROUPS       "X25519:P-256:P-384"
#define SUITES_1_2   "ECDHE+AESGCM:ECDHE+CHACHA20"
#define SUITES_1_3   "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
#define LEVEL        2
#define CHOICE_TLS12 1 /* index into the choices of min_version */

const struct tf_option tf_tls_option_table[] = {
    {.name = "ca",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct tf_tls_options, ca),
     .required = true,
     .about = "Certificates, in PEM, of the authorities that the other end's may come from; the "
              "system's are never used. It, cert and key are read again when they change."},
    {.name = "cert",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct tf_tls_options, cert),
     .required = true,
     .about = "Our certificate in PEM, then its intermediates."},
    {.name = "key",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct tf_tls_options, key),
     .required = true,
     .about = "The certificate's private key in PEM; others may not read it."},
    {.name = "identity",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_tls_options, identity),
     .about = "Who the other end must prove to be, one of dns:NAME, ip:ADDRESS, a URI, "
              "spki:sha256/BASE64; by default the host called. Listeners have allow instead."},
    {.name = "min_version",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_tls_options, min_version),
     .def = "1.3",
     .choices = "1.3|1.2",
     .about = "The oldest TLS version accepted; 1.2 with ECDHE and AEAD only."},
    {0},
};

static int set_protocol(SSL_CTX *ctx, int min_version)
{
    uint64_t options = SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                       SSL_OP_CIPHER_SERVER_PREFERENCE;

    SSL_CTX_set_security_level(ctx, LEVEL);
    (void)SSL_CTX_set_options(ctx, options);
    (void)SSL_CTX_clear_options(ctx, SSL_OP_LEGACY_SERVER_CONNECT |
                                         SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION |
                                         SSL_OP_IGNORE_UNEXPECTED_EOF);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_set_min_proto_version(ctx, min_version) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, SUITES_1_2) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, SUITES_1_3) != 1 ||
        SSL_CTX_set1_groups_list(ctx, GROUPS) != 1 || SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
        SSL_CTX_set_max_early_data(ctx, 0) != 1 || SSL_CTX_set_recv_max_early_data(ctx, 0) != 1) {
        return -EIO;
    }
    return 0;
}

static void set_verification(SSL_CTX *ctx)
{
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(ctx, TF_TLS_DEPTH_MAX);
    SSL_CTX_set_cert_verify_callback(ctx, tf_tls_verify, NULL);
    SSL_CTX_set_max_cert_list(ctx, TF_TLS_CERT_LIST_MAX);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_NO_AUTO_CHAIN);
}

static int parse_wants(struct tf_tls *tls, const struct tf_texts *identity, struct tf_error *err)
{
    char why[TF_LINK_REASON_MAX + 1];
    int rc = 0;

    if (identity->count == 0) {
        return 0;
    }
    if (identity->count > TF_TLS_IDENTITIES_MAX) {
        return tf_error_add(err, &identity->at, "tls.identity: %zu entries; %u are allowed",
                            identity->count, TF_TLS_IDENTITIES_MAX);
    }
    tls->wants = calloc(identity->count, sizeof *tls->wants);
    if (tls->wants == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < identity->count; i++) {
        const struct tf_text *item = &identity->items[i];

        if (tf_want_parse(item->text, &tls->wants[i], why) < 0) {
            rc = tf_error_add(err, &item->at, "tls.identity: \"%s\" %s", item->text, why);
        }
    }
    tls->want_count = identity->count;
    return rc;
}

static void free_tls(struct tf_tls *tls)
{
    SSL_CTX_free(tls->ctx);
    free(tls->ca_path);
    free(tls->wants);
    free(tls);
}

static int fill(struct tf_tls *tls, const struct tf_tls_options *options,
                struct tf_tls_files *files, struct tf_error *err)
{
    int rc = 0, files_rc;

    tls->ctx = SSL_CTX_new(TLS_method());
    tls->ca_path = strdup(options->ca.text != NULL ? options->ca.text : "");
    if (tls->ctx == NULL || tls->ca_path == NULL) {
        return -ENOMEM;
    }
    tls->min_version = options->min_version == CHOICE_TLS12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    rc = set_protocol(tls->ctx, tls->min_version);
    if (rc < 0) {
        return tf_error_add(err, &options->ca.at, "tls: this OpenSSL lacks what TLS needs");
    }
    set_verification(tls->ctx);
    if (!tls->is_server) {
        rc = parse_wants(tls, &options->identity, err);
    }
    files_rc = tf_tls_load_files(tls->ctx, options, tls->is_server, files, err);
    return rc < 0 ? rc : files_rc;
}

static int make(const struct tf_tls_options *options, bool is_server, struct tf_tls_files *files,
                struct tf_tls **out, struct tf_error *err)
{
    struct tf_tls *tls = calloc(1, sizeof *tls);
    int rc;

    if (tls == NULL) {
        return -ENOMEM;
    }
    tls->refs = 1;
    tls->is_server = is_server;
    ERR_clear_error();
    rc = fill(tls, options, files, err);
    if (rc < 0) {
        free_tls(tls);
        return rc;
    }
    *out = tls;
    return 0;
}

int tf_tls_client_new(const struct tf_tls_options *options, struct tf_tls_files *files,
                      struct tf_tls **out, struct tf_error *err)
{
    return make(options, false, files, out, err);
}

int tf_tls_server_new(const struct tf_tls_options *options, struct tf_tls_files *files,
                      struct tf_tls **out, struct tf_error *err)
{
    return make(options, true, files, out, err);
}

bool tf_tls_own_identity(const struct tf_tls *tls, char identity[TF_IDENTITY_MAX + 1])
{
    X509 *cert = SSL_CTX_get0_certificate(tls->ctx);
    char why[TF_LINK_REASON_MAX + 1];

    return cert != NULL && tf_identity_of_client(cert, identity, why) == 0;
}

int64_t tf_tls_until_s(const struct tf_tls *tls)
{
    const X509 *cert = SSL_CTX_get0_certificate(tls->ctx);
    struct tm end = {0};

    return cert != NULL && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) == 1 ? timegm(&end) : 0;
}

void tf_tls_summarize(const struct tf_tls *tls, struct tf_buf *out)
{
    int64_t left_s = tf_tls_until_s(tls) - tf_now_ns() / TF_S_IN_NS;
    char identity[TF_IDENTITY_MAX + 1], days[TF_COUNTED_TEXT_BYTES];

    if (tf_tls_own_identity(tls, identity)) {
        (void)tf_buf_printf(out, "as %s, ", identity);
    }
    (void)tf_buf_printf(out, "certificate for %s", /* one that has ended is not loaded */
                        tf_counted_text(left_s > 0 ? (uint64_t)left_s / 86400 : 0, "day", days));
}

void tf_tls_ref(struct tf_tls *tls)
{
    assert(tls->refs > 0);
    tls->refs++;
}

void tf_tls_unref(struct tf_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    assert(tls->refs > 0);
    if (--tls->refs == 0) {
        free_tls(tls);
    }
}
