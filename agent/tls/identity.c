/*
 * identity.c - names: what a certificate proves, what is wanted of it, and what allow entries
 * match.
 *
 * Names come from the subjectAltName only, never from the subject. An identity is one text:
 *
 *     a URI SAN            itself, byte for byte, no decoding     spiffe://example.com/node/7
 *     a DNS SAN            dns: and the name in lower case        dns:node-7.example.com
 *     an IP SAN            ip: and the address                    ip:192.0.2.7
 *     a pinned key         spki:sha256/ and base64                spki:sha256/47DEQpj8HBSa...
 *
 * A URI SAN whose scheme is dns, ip or spki proves nothing, since it would read like another kind.
 * Hostile names (a NUL, control characters, blanks, too long, two where one is meant) prove
 * nothing.
 */
#include "internal.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>
#include <openssl/x509v3.h>

#define DNS_NAME_MAX     253u
#define DNS_LABEL_MAX    63u
#define PIN_PREFIX       "spki:sha256/"
#define PIN_BASE64_CHARS 44u /* of 32 bytes */
#define NAMES_LISTED_MAX 16

/* ---- syntax --------------------------------------------------------------------------------- */

static bool is_dns_char(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

/* Labels of 1 to 63 letters, digits, '-' and '_', parted by dots; no dot at either end. */
static bool is_dns_name(const char *name, size_t size)
{
    size_t label = 0;

    if (size == 0 || size > DNS_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (name[i] == '.' && label > 0) {
            label = 0;
        } else if (is_dns_char(name[i]) && label < DNS_LABEL_MAX) {
            label++;
        } else {
            return false;
        }
    }
    return label > 0;
}

/* Length of "scheme:" as in RFC 3986, section 3.1; 0: none. */
static size_t scheme_size(const char *text, size_t size)
{
    if (size == 0 || !isalpha((unsigned char)text[0])) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if (text[i] == ':') {
            return i + 1;
        }
        if (!isalnum((unsigned char)text[i]) && strchr("+-.", text[i]) == NULL) {
            return 0;
        }
    }
    return 0;
}

static bool has_scheme(const char *text, size_t size, const char *scheme)
{
    size_t length = strlen(scheme);

    return size >= length && strncasecmp(text, scheme, length) == 0;
}

/* A URI that may stand as an identity. */
static bool is_identity_uri(const char *text, size_t size)
{
    size_t scheme = scheme_size(text, size);

    if (scheme == 0 || scheme == size || size > TF_IDENTITY_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f) { /* also a NUL and, char being signed, 0x80.. */
            return false;
        }
    }
    return !has_scheme(text, size, "dns:") && !has_scheme(text, size, "ip:") &&
           !has_scheme(text, size, "spki:");
}

/* ---- what is wanted ------------------------------------------------------------------------- */

static void set_dns(struct tf_want *want, const char *name)
{
    *want = (struct tf_want){.kind = TF_WANT_DNS};
    (void)snprintf(want->text, sizeof want->text, "dns:%s", name);
    for (char *at = want->text; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
}

static bool set_ip(struct tf_want *want, const char *address)
{
    struct tf_want ip = {.kind = TF_WANT_IP};

    if (inet_pton(AF_INET, address, ip.bytes) == 1) {
        ip.byte_count = 4;
    } else if (inet_pton(AF_INET6, address, ip.bytes) == 1) {
        ip.byte_count = 16;
    } else {
        return false;
    }
    (void)snprintf(ip.text, sizeof ip.text, "ip:%s", address);
    *want = ip;
    return true;
}

static bool set_pin(struct tf_want *want, const char *text)
{
    uint8_t decoded[PIN_BASE64_CHARS / 4 * 3 + 1], again[PIN_BASE64_CHARS + 1];
    const char *base64 = text + strlen(PIN_PREFIX);

    if (strlen(base64) != PIN_BASE64_CHARS ||
        EVP_DecodeBlock(decoded, (const uint8_t *)base64, PIN_BASE64_CHARS) < 0) {
        return false;
    }
    (void)EVP_EncodeBlock(again, decoded, TF_SHA256_BYTES);
    if (memcmp(again, base64, PIN_BASE64_CHARS) != 0) { /* one spelling only */
        return false;
    }
    *want = (struct tf_want){.kind = TF_WANT_PIN, .byte_count = TF_SHA256_BYTES};
    (void)snprintf(want->text, sizeof want->text, "%s", text);
    memcpy(want->bytes, decoded, TF_SHA256_BYTES);
    return true;
}

int tf_want_host(const char *host, struct tf_want *want)
{
    if (set_ip(want, host)) {
        return 0;
    }
    if (!is_dns_name(host, strlen(host))) {
        return -EINVAL;
    }
    set_dns(want, host);
    return 0;
}

static int refuse(char why[TF_LINK_REASON_MAX + 1], const char *text)
{
    (void)snprintf(why, TF_LINK_REASON_MAX + 1, "%s", text);
    return -EINVAL;
}

int tf_want_parse(const char *text, struct tf_want *want, char why[TF_LINK_REASON_MAX + 1])
{
    size_t size = strlen(text);
    struct tf_want bare;

    if (tf_want_host(text, &bare) == 0) {
        (void)snprintf(why, TF_LINK_REASON_MAX + 1, "has no scheme; write %.200s", bare.text);
        return -EINVAL;
    }
    if (has_scheme(text, size, PIN_PREFIX)) {
        return set_pin(want, text) ? 0
                                   : refuse(why, "is not spki:sha256/ and 44 characters of base64");
    }
    if (has_scheme(text, size, "dns:")) {
        if (!is_dns_name(text + 4, size - 4)) {
            return refuse(why, "is not a DNS name; patterns are not allowed here");
        }
        set_dns(want, text + 4);
        return 0;
    }
    if (has_scheme(text, size, "ip:")) {
        return set_ip(want, text + 3) ? 0 : refuse(why, "is not an IP address");
    }
    if (!is_identity_uri(text, size)) {
        return refuse(why, "is none of dns:NAME, ip:ADDRESS, a URI, spki:sha256/BASE64");
    }
    *want = (struct tf_want){.kind = TF_WANT_URI};
    (void)snprintf(want->text, sizeof want->text, "%s", text);
    return 0;
}

/* ---- what is proved ------------------------------------------------------------------------- */

static struct tf_slice name_text(const GENERAL_NAME *name)
{
    const ASN1_STRING *text =
        name->type == GEN_DNS ? name->d.dNSName : name->d.uniformResourceIdentifier;

    return tf_slice(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
}

/* Counts the SANs of a type; *first is the first of them, borrowing from names. */
static int count_names(const GENERAL_NAMES *names, int type, struct tf_slice *first)
{
    int count = 0;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == type && count++ == 0) {
            *first = name_text(name);
        }
    }
    return count;
}

/* NULL: there are none, or they are malformed or doubled, which proves as little. */
static GENERAL_NAMES *names_of(X509 *cert)
{
    return X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
}

bool tf_identity_uri(X509 *cert, char identity[TF_IDENTITY_MAX + 1])
{
    GENERAL_NAMES *names = names_of(cert);
    struct tf_slice uri = {0};
    bool sound = count_names(names, GEN_URI, &uri) == 1 && is_identity_uri(uri.data, uri.size);

    if (sound) {
        memcpy(identity, uri.data, uri.size);
        identity[uri.size] = '\0';
    }
    GENERAL_NAMES_free(names);
    return sound;
}

int tf_identity_of_client(X509 *cert, char identity[TF_IDENTITY_MAX + 1],
                          char why[TF_LINK_REASON_MAX + 1])
{
    GENERAL_NAMES *names = names_of(cert);
    struct tf_slice uri = {0}, dns = {0};
    int uris = count_names(names, GEN_URI, &uri);
    int dnses = count_names(names, GEN_DNS, &dns);
    int rc = 0;

    if (uris == 1 && is_identity_uri(uri.data, uri.size)) {
        memcpy(identity, uri.data, uri.size);
        identity[uri.size] = '\0';
    } else if (uris == 0 && dnses == 1 && is_dns_name(dns.data, dns.size)) {
        struct tf_want want;
        char name[DNS_NAME_MAX + 1];

        memcpy(name, dns.data, dns.size);
        name[dns.size] = '\0';
        set_dns(&want, name);
        memcpy(identity, want.text, sizeof want.text);
    } else {
        char list[TF_TLS_NAME_BYTES];

        tf_identity_list(cert, list, sizeof list);
        (void)snprintf(why, TF_LINK_REASON_MAX + 1,
                       "wrong name: a client proves one URI, or else one DNS name, in its "
                       "subjectAltName; this one proves %s",
                       list);
        rc = -EACCES;
    }
    GENERAL_NAMES_free(names);
    return rc;
}

int tf_spki_digest(EVP_PKEY *key, uint8_t digest[TF_SHA256_BYTES])
{
    uint8_t *der = NULL;
    int size = i2d_PUBKEY(key, &der);
    int rc = -ENOMEM;

    if (size > 0 && EVP_Digest(der, (size_t)size, digest, NULL, EVP_sha256(), NULL) == 1) {
        rc = 0;
    }
    OPENSSL_free(der);
    return rc;
}

static bool pin_holds(const struct tf_want *want, X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);
    uint8_t digest[TF_SHA256_BYTES];

    return key != NULL && tf_spki_digest(key, digest) == 0 &&
           memcmp(digest, want->bytes, sizeof digest) == 0;
}

bool tf_want_holds(const struct tf_want *want, X509 *cert)
{
    unsigned flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
    char uri[TF_IDENTITY_MAX + 1];

    switch (want->kind) {
    case TF_WANT_DNS:
        return X509_check_host(cert, want->text + 4, strlen(want->text + 4), flags, NULL) == 1;
    case TF_WANT_IP:
        return X509_check_ip(cert, want->bytes, want->byte_count, 0) == 1;
    case TF_WANT_URI:
        return tf_identity_uri(cert, uri) && strcmp(uri, want->text) == 0;
    case TF_WANT_PIN:
        return pin_holds(want, cert);
    }
    return false;
}

/* Appends at *used, with what is not printable as '?'; cut at size. */
static void put(char *text, size_t size, size_t *used, const char *data, size_t count)
{
    for (size_t i = 0; i < count && *used + 1 < size; i++) {
        text[(*used)++] = data[i] > 0x20 && data[i] < 0x7f ? data[i] : '?';
    }
    text[*used] = '\0';
}

static void put_address(char *text, size_t size, size_t *used, const ASN1_OCTET_STRING *address)
{
    char name[INET6_ADDRSTRLEN] = "?";
    int bytes = ASN1_STRING_length(address);

    if (bytes == 4 || bytes == 16) {
        (void)inet_ntop(bytes == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), name,
                        sizeof name);
    }
    put(text, size, used, name, strlen(name));
}

static void put_name(char *text, size_t size, size_t *used, const GENERAL_NAME *name)
{
    const char *kind = name->type == GEN_DNS ? "DNS:" : name->type == GEN_URI ? "URI:" : "IP:";

    if (*used > 0 && *used + 3 < size) {
        text[(*used)++] = ',';
        text[(*used)++] = ' ';
    }
    put(text, size, used, kind, strlen(kind));
    if (name->type == GEN_IPADD) {
        put_address(text, size, used, name->d.iPAddress);
    } else {
        struct tf_slice value = name_text(name);

        put(text, size, used, value.data, value.size);
    }
}

void tf_identity_list(X509 *cert, char *text, size_t size)
{
    GENERAL_NAMES *names = names_of(cert);
    size_t used = 0;
    int listed = 0;

    text[0] = '\0';
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && listed < NAMES_LISTED_MAX; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == GEN_DNS || name->type == GEN_URI || name->type == GEN_IPADD) {
            put_name(text, size, &used, name);
            listed++;
        }
    }
    if (listed == 0) {
        (void)snprintf(text, size, "no name");
    }
    GENERAL_NAMES_free(names);
}

/* ---- allow entries -------------------------------------------------------------------------- */

/* The bytes before the next separator or the end. */
static struct tf_slice next_part(const char *text, char separator)
{
    const char *end = strchr(text, separator);

    return tf_slice(text, end == NULL ? strlen(text) : (size_t)(end - text));
}

static bool is_star(struct tf_slice part)
{
    return part.size == 1 && part.data[0] == '*';
}

/* A whole part that a star may stand for: not empty, no query or fragment, no dots that climb. */
static bool star_takes(struct tf_slice part)
{
    return part.size > 0 && memchr(part.data, '?', part.size) == NULL &&
           memchr(part.data, '#', part.size) == NULL && !tf_slice_equal(part, tf_slice_text(".")) &&
           !tf_slice_equal(part, tf_slice_text(".."));
}

static bool parts_match(const char *pattern, const char *text, char separator, bool fold_case)
{
    for (;;) {
        struct tf_slice wanted = next_part(pattern, separator);
        struct tf_slice found = next_part(text, separator);
        bool same = wanted.size == found.size &&
                    (fold_case ? strncasecmp(wanted.data, found.data, found.size)
                               : memcmp(wanted.data, found.data, found.size)) == 0;

        if (!same && !(is_star(wanted) && star_takes(found))) {
            return false;
        }
        pattern += wanted.size;
        text += found.size;
        if (*pattern == '\0' || *text == '\0') {
            return *pattern == *text;
        }
        pattern++;
        text++;
    }
}

/* Where the path of a URI begins: behind the authority, or else behind the scheme. */
static size_t path_offset(const char *uri)
{
    size_t scheme = scheme_size(uri, strlen(uri));
    const char *path;

    if (strncmp(uri + scheme, "//", 2) != 0) {
        return scheme;
    }
    path = strchr(uri + scheme + 2, '/');
    return path == NULL ? strlen(uri) : (size_t)(path - uri);
}

bool tf_identity_match(const char *pattern, const char *identity)
{
    size_t path;

    assert(pattern != NULL && identity != NULL);
    if (strlen(pattern) > TF_IDENTITY_MAX || strlen(identity) > TF_IDENTITY_MAX) {
        return false;
    }
    if (strncmp(identity, "dns:", 4) == 0) {
        return strncmp(pattern, "dns:", 4) == 0 &&
               parts_match(pattern + 4, identity + 4, '.', true);
    }
    path = path_offset(identity);
    if (path == 0 || path_offset(pattern) != path || strncmp(pattern, identity, path) != 0) {
        return strcmp(pattern, identity) == 0; /* an ip: or a pin, or nothing in common */
    }
    return parts_match(pattern + path, identity + path, '/', false);
}
