/*
 * verify.c - whether the other end's certificate is good, and the reason in words when it is not.
 *
 * Runs inside the handshake, so that a refusal goes out as an alert before any plaintext. In this
 * order: OpenSSL's chain check (own CAs only, depth, dates, purpose, level 2), strength of every
 * key and signature, the extended key usage as such (OpenSSL takes its absence for consent), then
 * the name: for a server one of the wanted, for a client the identity that it proves.
 * Not here: revocation.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include <openssl/x509v3.h>

#define SIGNATURE_BITS_MIN 112 /* SHA-1 has 63 */

/* ---- readers of certificates ---------------------------------------------------------------- */

void tf_cert_name(const X509_NAME *name, char text[TF_TLS_NAME_BYTES])
{
    BIO *bio = BIO_new(BIO_s_mem());
    int n = -1;

    if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
        n = BIO_read(bio, text, TF_TLS_NAME_BYTES - 1);
    }
    text[n > 0 ? n : 0] = '\0';
    if (n <= 0) {
        (void)snprintf(text, TF_TLS_NAME_BYTES, "no subject");
    }
    BIO_free(bio);
}

void tf_cert_date(const ASN1_TIME *time, char text[TF_TLS_DATE_BYTES])
{
    char date[64];
    struct tm tm;

    if (ASN1_TIME_to_tm(time, &tm) != 1) {
        (void)snprintf(text, TF_TLS_DATE_BYTES, "no date");
        return;
    }
    (void)snprintf(date, sizeof date, "%04d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1,
                   tm.tm_mday);
    (void)snprintf(text, TF_TLS_DATE_BYTES, "%.10s", date);
}

static int key_strength(EVP_PKEY *key, char why[TF_LINK_REASON_MAX + 1])
{
    int bits = key == NULL ? 0 : EVP_PKEY_get_bits(key);

    switch (key == NULL ? EVP_PKEY_NONE : EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        if (bits >= TF_TLS_RSA_BITS_MIN) {
            return 0;
        }
        (void)snprintf(why, TF_LINK_REASON_MAX + 1, "has an RSA key of %d bits; %d are needed",
                       bits, TF_TLS_RSA_BITS_MIN);
        return -EINVAL;
    case EVP_PKEY_EC:
        if (bits >= TF_TLS_EC_BITS_MIN) {
            return 0;
        }
        (void)snprintf(why, TF_LINK_REASON_MAX + 1, "has an EC key of %d bits; %d are needed", bits,
                       TF_TLS_EC_BITS_MIN);
        return -EINVAL;
    case EVP_PKEY_ED25519:
    case EVP_PKEY_ED448:
        return 0;
    default:
        (void)snprintf(why, TF_LINK_REASON_MAX + 1, "has a key that is neither RSA, EC nor EdDSA");
        return -EINVAL;
    }
}

int tf_cert_strength(X509 *cert, char why[TF_LINK_REASON_MAX + 1])
{
    bool is_root = (X509_get_extension_flags(cert) & EXFLAG_SS) != 0;
    int digest = NID_undef, bits = 0;

    if (!is_root && (X509_get_signature_info(cert, &digest, NULL, &bits, NULL) != 1 ||
                     bits < SIGNATURE_BITS_MIN)) {
        const char *name = digest == NID_sha1 ? "SHA-1" : digest == NID_md5 ? "MD5" : "a weak hash";

        (void)snprintf(why, TF_LINK_REASON_MAX + 1, "is signed with %s; SHA-256 is needed", name);
        return -EINVAL;
    }
    return key_strength(X509_get0_pubkey(cert), why);
}

bool tf_cert_has_usage(X509 *cert, bool as_server)
{
    uint32_t usage = as_server ? XKU_SSL_SERVER : XKU_SSL_CLIENT;

    return (X509_get_extension_flags(cert) & EXFLAG_XKUSAGE) != 0 &&
           (X509_get_extended_key_usage(cert) & usage) != 0;
}

void tf_peer_describe(const struct tf_peer *peer, char text[TF_LINK_REASON_MAX + 1])
{
    char subject[TF_TLS_NAME_BYTES], names[TF_TLS_NAME_BYTES];
    char from[TF_TLS_DATE_BYTES], until[TF_TLS_DATE_BYTES];

    text[0] = '\0';
    if (peer->leaf == NULL) {
        return;
    }
    tf_cert_name(X509_get_subject_name(peer->leaf), subject);
    tf_identity_list(peer->leaf, names, sizeof names);
    tf_cert_date(X509_get0_notBefore(peer->leaf), from);
    tf_cert_date(X509_get0_notAfter(peer->leaf), until);
    (void)snprintf(text, TF_LINK_REASON_MAX + 1, "%.90s; %.110s; %s to %s; chain of %d", subject,
                   names, from, until, peer->chain_count);
}

/* ---- reasons -------------------------------------------------------------------------------- */

static const char *usage_name(const struct tf_peer *peer)
{
    return peer->tls->is_server ? "clientAuth" : "serverAuth";
}

/* The words for what OpenSSL's chain check found, with the certificate that it found it in. */
static void explain(struct tf_peer *peer, X509_STORE_CTX *store)
{
    char subject[TF_TLS_NAME_BYTES] = "unknown", issuer[TF_TLS_NAME_BYTES] = "unknown";
    char from[TF_TLS_DATE_BYTES] = "", until[TF_TLS_DATE_BYTES] = "";
    X509 *cert = X509_STORE_CTX_get_current_cert(store);
    int code = X509_STORE_CTX_get_error(store);
    size_t size = sizeof peer->reason;

    if (cert != NULL) {
        tf_cert_name(X509_get_subject_name(cert), subject);
        tf_cert_name(X509_get_issuer_name(cert), issuer);
        tf_cert_date(X509_get0_notBefore(cert), from);
        tf_cert_date(X509_get0_notAfter(cert), until);
    }
    switch (code) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        peer->step = TF_LINK_ISSUER;
        (void)snprintf(peer->reason, size,
                       "other CA: its certificate (%.80s) is self-signed, not issued by a CA in %s",
                       subject, peer->tls->ca_path);
        break;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        peer->step = TF_LINK_ISSUER;
        (void)snprintf(peer->reason, size,
                       "other CA: its certificate (%.60s) was issued by \"%.60s\", not by a CA in "
                       "%s",
                       subject, issuer, peer->tls->ca_path);
        break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        (void)snprintf(peer->reason, size, "its certificate (%s) expired on %s", subject, until);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        (void)snprintf(peer->reason, size, "its certificate (%s) is not valid before %s", subject,
                       from);
        break;
    case X509_V_ERR_INVALID_PURPOSE:
        (void)snprintf(peer->reason, size, "its certificate (%s) lacks the extended key usage %s",
                       subject, usage_name(peer));
        break;
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
        (void)snprintf(peer->reason, size, "its certificate chain is deeper than %d",
                       TF_TLS_DEPTH_MAX);
        break;
    default:
        (void)snprintf(peer->reason, size, "its certificate (%s) is refused: %s", subject,
                       X509_verify_cert_error_string(code));
        break;
    }
}

/* OpenSSL tells a weak key or hash in few words; ours name the size and the need. */
static int check_strength(struct tf_peer *peer, const STACK_OF(X509) * chain)
{
    char why[TF_LINK_REASON_MAX + 1], subject[TF_TLS_NAME_BYTES];

    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *cert = sk_X509_value(chain, i);

        if (tf_cert_strength(cert, why) < 0) {
            tf_cert_name(X509_get_subject_name(cert), subject);
            (void)snprintf(peer->reason, sizeof peer->reason, "its certificate (%.100s) %.120s",
                           subject, why);
            return i == 0 ? X509_V_ERR_EE_KEY_TOO_SMALL : X509_V_ERR_CA_KEY_TOO_SMALL;
        }
    }
    return X509_V_OK;
}

static int check_server_name(struct tf_peer *peer, X509 *leaf)
{
    const struct tf_tls *tls = peer->tls;
    const struct tf_want *wants = tls->want_count > 0 ? tls->wants : &peer->host;
    size_t count = tls->want_count > 0 ? tls->want_count : 1;
    char proved[TF_TLS_NAME_BYTES];

    peer->step = TF_LINK_NAME;
    for (size_t i = 0; i < count; i++) {
        if (tf_want_holds(&wants[i], leaf)) {
            if (!tf_identity_uri(leaf, peer->identity)) {
                memcpy(peer->identity, wants[i].text, sizeof peer->identity);
            }
            return X509_V_OK;
        }
    }
    tf_identity_list(leaf, proved, sizeof proved);
    (void)snprintf(peer->reason, sizeof peer->reason, "wrong name: it proves %s; wanted %.60s%s",
                   proved, wants[0].text, count > 1 ? " or another of tls.identity" : "");
    return X509_V_ERR_HOSTNAME_MISMATCH;
}

static int check_leaf(struct tf_peer *peer, X509 *leaf)
{
    char subject[TF_TLS_NAME_BYTES];

    if (!tf_cert_has_usage(leaf, !peer->tls->is_server)) {
        tf_cert_name(X509_get_subject_name(leaf), subject);
        (void)snprintf(peer->reason, sizeof peer->reason,
                       "its certificate (%s) lacks the extended key usage %s", subject,
                       usage_name(peer));
        return X509_V_ERR_INVALID_PURPOSE;
    }
    if (!peer->tls->is_server) {
        return check_server_name(peer, leaf);
    }
    if (tf_identity_of_client(leaf, peer->identity, peer->reason) < 0) {
        return X509_V_ERR_HOSTNAME_MISMATCH;
    }
    return X509_V_OK;
}

static void note_seen(struct tf_peer *peer, X509_STORE_CTX *store)
{
    X509 *leaf = X509_STORE_CTX_get0_cert(store);

    peer->step = TF_LINK_CERTIFICATE;
    peer->seen_ns = uv_hrtime();
    peer->chain_count = sk_X509_num(X509_STORE_CTX_get0_untrusted(store));
    if (peer->leaf == NULL && leaf != NULL && X509_up_ref(leaf) == 1) {
        peer->leaf = leaf;
    }
}

int tf_tls_verify(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tf_peer *peer = SSL_get_app_data(ssl);
    bool sound = X509_verify_cert(store) > 0;
    const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    int code;

    (void)arg;
    assert(peer != NULL);
    note_seen(peer, store);
    if (!sound) {
        code = X509_STORE_CTX_get_error(store);
        if (code != X509_V_ERR_EE_KEY_TOO_SMALL && code != X509_V_ERR_CA_KEY_TOO_SMALL &&
            code != X509_V_ERR_CA_MD_TOO_WEAK) {
            explain(peer, store);
        } else if (check_strength(peer, chain) == X509_V_OK) {
            explain(peer, store);
        }
        return 0;
    }
    code = check_strength(peer, chain);
    if (code == X509_V_OK) {
        code = check_leaf(peer, sk_X509_value(chain, 0));
    }
    peer->step = code == X509_V_OK ? TF_LINK_OURS : peer->step;
    X509_STORE_CTX_set_error(store, code);
    return code == X509_V_OK;
}
