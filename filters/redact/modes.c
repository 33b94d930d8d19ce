/*
 * modes.c - the text that stands in a secret's place.
 *
 * mask: the replacement, "[REDACTED:{rule}]" unless configured; the same for every length.
 *
 * hash: "[HASH:" rule ":" keyid ":" mark "]", where
 *
 *     K     = HKDF-Expand(key of the file, "taffrail/1 redact hash" NUL), SHA-256, 32 bytes
 *     mark  = the first 12 bytes of HMAC-SHA-256(K, secret), 20 characters of Crockford's base32
 *     keyid = 4 bytes of HKDF-Expand(key, "taffrail/1 redact hash id" NUL), in hex
 *
 * The rule is not in the MAC: two rules that find the same secret leave the same mark. Another key
 * changes all marks.
 *
 * partial: first and last characters as the rule keeps them, the mask between; together a quarter
 * of the secret at most, whole UTF-8 characters. A rule that keeps none is masked.
 *
 * drop: the mask; the record is not written at all.
 *
 * A key's holder can try values: rules of small spaces (guessable) are masked under a general hash,
 * and hashed only when they are named by their id, with a warning.
 *
 * Which mode counts for a rule: that of `modes` by its id, else by a tag, else by its pack, the
 * last written of equals; else `mode`.
 */
#include "modes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "engine.h"
#include "redact.h"
#include "taffrail/tls.h"

#define KEY_PREFIX     "taffrail-hash-1:"
#define KEY_FILE_MAX   128u
#define BASE64_CHARS   44u /* of 32 bytes */
#define MAC_BYTES      32u
#define MARK_BYTES     12u
#define MARK_CHARS     20u /* of base32 */
#define KEY_ID_CHARS   8u
#define LABEL_HASH     "taffrail/1 redact hash"
#define LABEL_KEY_ID   "taffrail/1 redact hash id"
#define LABEL_MAX_SIZE 64u

struct tf_redact_hash {
    EVP_MAC_CTX *mac; /* NULL: nothing is hashed */
};

static const char *const mode_names[] = {"mask", "hash", "partial", "drop"};
static const char base32[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const char *tf_redact_mode_name(const struct tf_redact_modes *modes, uint16_t rule)
{
    return mode_names[modes->mode[rule]];
}

/* ---- the key ------------------------------------------------------------------------------------
 */

static int sextet(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != 0 ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

int tf_redact_hash_key_parse(struct tf_slice text, uint8_t key[TF_REDACT_HASH_KEY_BYTES])
{
    const size_t prefix = sizeof KEY_PREFIX - 1;
    uint32_t bits = 0;
    size_t size = 0;

    if (text.size > 0 && text.data[text.size - 1] == '\n') {
        text.size--;
    }
    if (text.size > 0 && text.data[text.size - 1] == '\r') {
        text.size--;
    }
    if (text.size != prefix + BASE64_CHARS || memcmp(text.data, KEY_PREFIX, prefix) != 0 ||
        text.data[text.size - 1] != '=') {
        return -EPROTO;
    }
    for (size_t i = 0; i < BASE64_CHARS - 1; i++) {
        int value = sextet(text.data[prefix + i]);

        if (value < 0) {
            return -EPROTO;
        }
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 0) {
            key[size++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
    }
    return (bits & 3) == 0 ? 0 : -EPROTO; /* spare bits are zero */
}

/* HKDF-Expand (RFC 5869, 2.3) to 32 bytes: its one block. */
static bool expand(const uint8_t key[TF_REDACT_HASH_KEY_BYTES], const char *label,
                   uint8_t out[MAC_BYTES])
{
    uint8_t info[LABEL_MAX_SIZE];
    size_t size = strlen(label) + 1; /* with its NUL */
    unsigned out_size = 0;

    memcpy(info, label, size);
    info[size] = 1;
    return HMAC(EVP_sha256(), key, TF_REDACT_HASH_KEY_BYTES, info, size + 1, out, &out_size) !=
               NULL &&
           out_size == MAC_BYTES;
}

static int take_key(struct tf_redact_modes *modes, const uint8_t key[TF_REDACT_HASH_KEY_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    uint8_t id[MAC_BYTES];

    if (!expand(key, LABEL_HASH, modes->key) || !expand(key, LABEL_KEY_ID, id)) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < KEY_ID_CHARS; i++) {
        modes->key_id[i] = hex[i % 2 == 0 ? id[i / 2] >> 4 : id[i / 2] & 15];
    }
    return 0;
}

static int load_key(struct tf_redact_modes *modes, const struct tf_text *path, struct tf_error *err)
{
    uint8_t key[TF_REDACT_HASH_KEY_BYTES];
    char text[KEY_FILE_MAX], reason[64];
    ssize_t size;
    int fd = open(path->text, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc;

    if (fd < 0) {
        return tf_error_add(err, &path->at,
                            "hash key \"%s\": %s; `taffrail pki hash FILE` makes one", path->text,
                            strerror_r(errno, reason, sizeof reason));
    }
    rc = tf_secret_file_check(fd, path->text, &path->at, err);
    if (rc == 0) {
        size = read(fd, text, sizeof text);
        rc = size < 0 ? -EPROTO : tf_redact_hash_key_parse(tf_slice(text, (size_t)size), key);
        if (rc < 0) {
            rc = tf_error_add(err, &path->at,
                              "hash key \"%s\" is not one line `%s` and base64; `taffrail pki hash "
                              "FILE` makes one",
                              path->text, KEY_PREFIX);
        } else {
            rc = take_key(modes, key);
        }
    }
    (void)close(fd);
    OPENSSL_cleanse(text, sizeof text);
    OPENSSL_cleanse(key, sizeof key);
    return rc;
}

/* ---- options ------------------------------------------------------------------------------------
 */

/* Writes the replacement for a rule. Returns false when it is too long. */
static bool fill_mask(const char *format, const char *id, char out[TF_REDACT_MASK_MAX_BYTES + 1])
{
    size_t size = 0;

    while (*format != 0) {
        bool is_id = strncmp(format, "{rule}", 6) == 0;
        size_t more = is_id ? strlen(id) : 1;

        if (size + more > TF_REDACT_MASK_MAX_BYTES) {
            return false;
        }
        memcpy(out + size, is_id ? id : format, more);
        size += more;
        format += is_id ? 6 : 1;
    }
    out[size] = 0;
    return true;
}

static int fill_masks(struct tf_redact_modes *modes, const struct tf_text *replacement,
                      struct tf_error *err)
{
    const char *format =
        replacement->text != NULL ? replacement->text : TF_REDACT_REPLACEMENT_DEFAULT;

    for (const char *byte = format; *byte != 0; byte++) {
        if ((uint8_t)*byte < ' ' || *byte == 0x7f) {
            return tf_error_add(err, &replacement->at,
                                "replacement holds a control character; leave it out");
        }
    }
    for (size_t i = 0; i < modes->count; i++) {
        if (!fill_mask(format, modes->rules[i].id, modes->masks[i])) {
            return tf_error_add(err, &replacement->at,
                                "replacement is longer than %u bytes; shorten it",
                                TF_REDACT_MASK_MAX_BYTES);
        }
    }
    return 0;
}

static int mode_by_name(const char *name)
{
    for (size_t i = 0; i < TF_COUNT(mode_names); i++) {
        if (strcmp(mode_names[i], name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int check_pairs(const struct tf_redact_ruleset *set, const struct tf_pairs *pairs,
                       struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < pairs->count; i++) {
        const struct tf_pair *pair = &pairs->items[i];

        if (tf_redact_ruleset_check_word(set, &pair->key, err) < 0) {
            rc = -EINVAL;
        }
        if (mode_by_name(pair->value.text) < 0) {
            rc = tf_error_add(err, &pair->value.at,
                              "\"%s\" is no mode; choose mask, hash, partial or drop",
                              pair->value.text);
        }
    }
    return rc;
}

/* The mode of one rule; *by is the pair that says so, or NULL. */
static enum tf_redact_mode choose(const struct tf_redact_options *options,
                                  const struct tf_redact_rule *rule, const struct tf_pair **by,
                                  enum tf_redact_named *level)
{
    *by = NULL;
    *level = TF_REDACT_NOT_NAMED;
    for (size_t i = 0; i < options->modes.count; i++) {
        const struct tf_pair *pair = &options->modes.items[i];
        enum tf_redact_named named = tf_redact_rule_named(rule, pair->key.text);

        if (named != TF_REDACT_NOT_NAMED && named >= *level) {
            *level = named;
            *by = pair;
        }
    }
    return *by != NULL ? (enum tf_redact_mode)mode_by_name((*by)->value.text)
                       : (enum tf_redact_mode)options->mode;
}

static void set_mode(struct tf_redact_modes *modes, size_t rule,
                     const struct tf_redact_options *options, struct tf_error *err)
{
    const struct tf_redact_rule *what = &modes->rules[rule];
    const struct tf_pair *by;
    enum tf_redact_named level;
    enum tf_redact_mode mode = choose(options, what, &by, &level);

    if (mode == TF_REDACT_HASH && what->guessable) {
        if (level == TF_REDACT_BY_ID) {
            tf_warning_add(err, &by->key.at,
                           "rule \"%s\" finds values of a small space: who has the hash key can "
                           "try them all; mask them unless their marks are needed",
                           what->id);
        } else {
            mode = TF_REDACT_MASK;
        }
    }
    modes->mode[rule] = (uint8_t)mode;
    modes->has_hash = modes->has_hash || mode == TF_REDACT_HASH;
    modes->has_partial = modes->has_partial || mode == TF_REDACT_PARTIAL;
    modes->has_drop = modes->has_drop || mode == TF_REDACT_DROP;
}

static bool asks_for_hash(const struct tf_redact_options *options)
{
    bool asks = options->mode == TF_REDACT_HASH;

    for (size_t i = 0; i < options->modes.count; i++) {
        asks = asks || mode_by_name(options->modes.items[i].value.text) == TF_REDACT_HASH;
    }
    return asks;
}

int tf_redact_modes_open(struct tf_redact_modes *modes, const struct tf_redact_ruleset *set,
                         const struct tf_redact_options *options, const bool *on,
                         const struct tf_place *at, struct tf_error *err)
{
    int rc, rc2;

    *modes = (struct tf_redact_modes){0};
    modes->rules = tf_redact_ruleset_rules(set, &modes->count);
    modes->mode =
        calloc(modes->count + 1, sizeof *modes->mode); /* no set is empty, but the checker */
    modes->masks = calloc(modes->count + 1, sizeof *modes->masks); /* cannot know */
    if (modes->mode == NULL || modes->masks == NULL) {
        return -ENOMEM;
    }
    rc = fill_masks(modes, &options->replacement, err);
    rc2 = check_pairs(set, &options->modes, err);
    rc = rc < 0 ? rc : rc2;
    for (size_t i = 0; rc2 == 0 && i < modes->count; i++) {
        if (on[i]) {
            set_mode(modes, i, options, err);
        }
    }
    if (options->hash_key.text != NULL) {
        rc2 = load_key(modes, &options->hash_key, err);
    } else if (asks_for_hash(options)) {
        rc2 = tf_error_add(err, at,
                           "mode hash wants hash_key, a file that `taffrail pki hash FILE` makes");
    }
    return rc < 0 ? rc : rc2;
}

void tf_redact_modes_close(struct tf_redact_modes *modes)
{
    OPENSSL_cleanse(modes->key, sizeof modes->key);
    free(modes->mode);
    free(modes->masks);
    modes->mode = NULL;
    modes->masks = NULL;
}

/* ---- texts --------------------------------------------------------------------------------------
 */

struct tf_redact_hash *tf_redact_hash_new(const struct tf_redact_modes *modes)
{
    static char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
    struct tf_redact_hash *hash = calloc(1, sizeof *hash);
    EVP_MAC *mac;

    if (hash == NULL || !modes->has_hash) {
        return hash;
    }
    mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    hash->mac = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac);
    if (hash->mac == NULL || EVP_MAC_init(hash->mac, modes->key, sizeof modes->key, params) != 1) {
        tf_redact_hash_free(hash);
        return NULL;
    }
    return hash;
}

void tf_redact_hash_free(struct tf_redact_hash *hash)
{
    if (hash != NULL) {
        EVP_MAC_CTX_free(hash->mac); /* it wipes the key */
        free(hash);
    }
}

/* The mark of a secret; false when it cannot be made. */
static bool make_mark(struct tf_redact_hash *hash, struct tf_slice secret,
                      char mark[MARK_CHARS + 1])
{
    uint8_t mac[MAC_BYTES];
    size_t size = 0;
    uint32_t bits = 0;
    unsigned held = 0;

    if (hash->mac == NULL || EVP_MAC_init(hash->mac, NULL, 0, NULL) != 1 || /* the same key again */
        EVP_MAC_update(hash->mac, (const uint8_t *)secret.data, secret.size) != 1 ||
        EVP_MAC_final(hash->mac, mac, &size, sizeof mac) != 1) {
        return false;
    }
    size = 0;
    for (size_t i = 0; i < MARK_BYTES; i++) {
        bits = bits << 8 | mac[i];
        held += 8;
        while (held >= 5) {
            held -= 5;
            mark[size++] = base32[bits >> held & 31];
        }
    }
    mark[size++] = base32[bits << (5 - held) & 31];
    mark[size] = 0;
    return size == MARK_CHARS;
}

static bool is_inside_character(struct tf_slice text, size_t at)
{
    return at < text.size && ((uint8_t)text.data[at] & 0xc0) == 0x80;
}

/* How many bytes the first `count` characters have, at most so many. */
static size_t first_characters(struct tf_slice text, size_t count, size_t most)
{
    size_t size = 0, next;

    for (; count > 0 && size < text.size; count--, size = next) {
        next = size + 1;
        while (is_inside_character(text, next)) {
            next++;
        }
        if (next > most) {
            break;
        }
    }
    return size;
}

/* The same of the last ones. */
static size_t last_characters(struct tf_slice text, size_t count, size_t most)
{
    size_t size = 0, next;

    for (; count > 0 && size < text.size; count--, size = next) {
        next = size + 1;
        while (next < text.size && is_inside_character(text, text.size - next)) {
            next++;
        }
        if (next > most) {
            break;
        }
    }
    return size;
}

static void put_partial(const struct tf_redact_modes *modes, uint16_t rule, struct tf_slice secret,
                        struct tf_buf *out)
{
    size_t most = secret.size / 4;
    size_t first = first_characters(secret, modes->rules[rule].keep_first, most);
    size_t last = last_characters(secret, modes->rules[rule].keep_last, most - first);

    (void)tf_buf_append(out, secret.data, first);
    (void)tf_buf_append_text(out, modes->masks[rule]);
    (void)tf_buf_append(out, secret.data + secret.size - last, last);
}

void tf_redact_modes_put(const struct tf_redact_modes *modes, struct tf_redact_hash *hash,
                         uint16_t rule, struct tf_slice secret, bool is_whole, struct tf_buf *out)
{
    char mark[MARK_CHARS + 1];

    if (rule == TF_REDACT_WITHHELD) {
        (void)tf_buf_append_text(out, TF_REDACT_WITHHELD_TEXT);
    } else if (modes->mode[rule] == TF_REDACT_HASH && make_mark(hash, secret, mark)) {
        (void)tf_buf_append_text(out, "[HASH:");
        (void)tf_buf_append_text(out, modes->rules[rule].id);
        (void)tf_buf_append_byte(out, ':');
        (void)tf_buf_append_text(out, modes->key_id);
        (void)tf_buf_append_byte(out, ':');
        (void)tf_buf_append_text(out, mark);
        (void)tf_buf_append_byte(out, ']');
    } else if (modes->mode[rule] == TF_REDACT_PARTIAL && is_whole) {
        put_partial(modes, rule, secret, out);
    } else {
        (void)tf_buf_append_text(out, modes->masks[rule]);
    }
}

/* How many bytes at the start of a text are of a set. */
static size_t span_of(struct tf_slice text, const char *set)
{
    size_t size = 0;

    while (size < text.size && text.data[size] != 0 && strchr(set, text.data[size]) != NULL) {
        size++;
    }
    return size;
}

static bool take(struct tf_slice *text, size_t size)
{
    text->data += size;
    text->size -= size;
    return true;
}

static bool take_word(struct tf_slice *text, const char *word)
{
    size_t size = strlen(word);

    return text->size >= size && memcmp(text->data, word, size) == 0 && take(text, size);
}

bool tf_redact_is_mark(struct tf_slice text)
{
    static const char id[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    bool is_hash = false;
    size_t size;

    if (text.size < 3 || text.data[0] != '[' || text.data[text.size - 1] != ']') {
        return false;
    }
    if (tf_slice_equal(text, tf_slice_text(TF_REDACT_WITHHELD_TEXT))) {
        return true;
    }
    if (!take_word(&text, "[REDACTED:")) {
        is_hash = take_word(&text, "[HASH:");
        if (!is_hash) {
            return false;
        }
    }
    size = span_of(text, id);
    if (size == 0 || size > 63 || !take(&text, size)) {
        return false;
    }
    if (is_hash && (!take_word(&text, ":") || span_of(text, "0123456789abcdef") != KEY_ID_CHARS ||
                    !take(&text, KEY_ID_CHARS) || !take_word(&text, ":") ||
                    span_of(text, base32) != MARK_CHARS || !take(&text, MARK_CHARS))) {
        return false;
    }
    return text.size == 1;
}
