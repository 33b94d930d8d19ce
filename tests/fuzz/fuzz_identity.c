/*
 * fuzz_identity.c - allow entries, entries of tls.identity, hosts, and the names in a certificate.
 *
 * The input is cut at its first newline into a pattern and an identity; all of it is also tried as
 * the DER of a certificate, and of its subjectAltName inside a sound one.
 */
#include <assert.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "../../agent/tls/internal.h"

#define TEXT_MAX 1024u

/* An entry that was taken says who it means, and reads back as itself. */
static void wanted(const char *text)
{
    struct tf_want want, again;
    char why[TF_LINK_REASON_MAX + 1];

    if (tf_want_parse(text, &want, why) == 0) {
        assert(strlen(want.text) <= TF_IDENTITY_MAX);
        assert(tf_want_parse(want.text, &again, why) == 0);
        assert(again.kind == want.kind && strcmp(again.text, want.text) == 0);
    }
    if (tf_want_host(text, &want) == 0) {
        assert(tf_want_parse(want.text, &again, why) == 0);
        assert(again.kind == want.kind && again.byte_count == want.byte_count);
    }
}

static void matched(const char *pattern, const char *identity)
{
    if (strchr(pattern, '*') == NULL && strncmp(identity, "dns:", 4) != 0) {
        bool same = strlen(identity) <= TF_IDENTITY_MAX && strcmp(pattern, identity) == 0;

        assert(tf_identity_match(pattern, identity) == same);
    }
    (void)tf_identity_match(pattern, identity);
    assert(tf_identity_match(identity, identity) == (strlen(identity) <= TF_IDENTITY_MAX));
}

/* What a client is called is always a text that could be written as an entry. */
static void proved(X509 *cert)
{
    char identity[TF_IDENTITY_MAX + 1], why[TF_LINK_REASON_MAX + 1], list[TF_TLS_NAME_BYTES];
    struct tf_want want;

    if (tf_identity_of_client(cert, identity, why) == 0) {
        assert(tf_identity_match(identity, identity));
        assert(tf_want_parse(identity, &want, why) == 0);
        assert(want.kind == TF_WANT_URI || want.kind == TF_WANT_DNS);
        assert(strcmp(want.text, identity) == 0);
    }
    tf_identity_list(cert, list, sizeof list);
    for (const char *at = list; *at != '\0'; at++) {
        assert(*at >= 0x20 && *at < 0x7f);
    }
    (void)tf_cert_strength(cert, why);
    (void)tf_cert_has_usage(cert, true);
    tf_cert_name(X509_get_subject_name(cert), list);
}

static void certificates(const uint8_t *data, size_t size)
{
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    const uint8_t *at = data;
    X509 *cert = d2i_X509(NULL, &at, (long)size);
    X509_EXTENSION *extension = NULL;

    if (cert != NULL) {
        proved(cert);
        X509_free(cert);
    }
    cert = X509_new();
    if (cert != NULL && value != NULL && ASN1_OCTET_STRING_set(value, data, (int)size) == 1) {
        extension = X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, 0, value);
    }
    if (extension != NULL && X509_add_ext(cert, extension, -1) == 1) {
        proved(cert);
    }
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
    X509_free(cert);
    ERR_clear_error();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_MAX + 1];
    char *newline;

    if (size <= TEXT_MAX) {
        memcpy(text, data, size);
        text[size] = '\0';
        wanted(text);
        newline = strchr(text, '\n');
        if (newline != NULL) {
            *newline = '\0';
            matched(text, newline + 1);
        }
    }
    certificates(data, size);
    return 0;
}
