/*
 * kernels.c - the kernels of this machine find the same candidates, wherever they begin and end.
 *
 * Plain C, so that it can be built for arm64 and run by an emulator (tests/test_arm64.sh). Texts
 * are made of keywords, of what nearly is one, and of runs that classes and gates look for, from a
 * fixed seed. Exits 0 when all kernels agree with the scalar one, and prints how many there were.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../filters/redact/prefilter.h"

#define TEXT_BYTES (64u << 10)
#define HITS       (1u << 18)
#define CUTS       96u

static const struct tf_redact_rule rules[] = {
    {.id = "a", .keywords = {"AKIA", "ASIA", "ghp_", "xoxb-", "eyJ"}},
    {.id = "b",
     .keywords = {"password", "passwd", "pwd", "secret", "token", "api_key"},
     .flags = TF_REDACT_FOLD,
     .follow = "=: \"'"},
    {.id = "c", .keywords = {"-----BEGIN ", "://", "sk_live_", "SG.", "AGE-SECRET-KEY-1"}},
    {.id = "d",
     .keywords = {"authorization", "bearer", "cookie", "\xd0\xbf\xd0\xb0\xd1\x80"},
     .flags = TF_REDACT_FOLD},
    {.id = "e", .class_ = TF_REDACT_CARD},
    {.id = "f", .class_ = TF_REDACT_IBAN},
    {.id = "g", .class_ = TF_REDACT_AT},
    {.id = "h", .requires = TF_REDACT_REQUIRES_DIGITS, .requires_count = 9},
    {.id = "i", .requires = TF_REDACT_REQUIRES_TOKEN, .requires_count = 32},
};

static uint64_t seed = 20261129;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static void fill(char *text)
{
    static const char *const pieces[] = {
        "AKIA",
        "akia",
        "PassWord=",
        "pass",
        "pwd:",
        "pwdx",
        "eyJ",
        "SECRET ",
        "xoxb-",
        "://",
        "/",
        "-----BEGIN ",
        "-----",
        "4111 1111 1111 1111",
        "4111111111111111",
        "DE89 3704",
        "a@b",
        " ",
        "123456789",
        "abcdefghijklmnopqrstuvwxyz012345",
        "\n",
        "\xd0\xbf\xd0\xb0\xd1\x80",
        "\xff",
    };
    size_t size = 0;

    while (size + 64 < TEXT_BYTES) {
        const char *piece = pieces[draw(TF_COUNT(pieces))];

        memcpy(text + size, piece, strlen(piece));
        size += strlen(piece);
        if (draw(3) == 0) {
            text[size++] = (char)draw(256);
        }
    }
    memset(text + size, 'x', TEXT_BYTES - size);
}

static struct tf_redact_prefilter *make(enum tf_redact_kernel kernel)
{
    struct tf_redact_prefilter *filter = calloc(1, sizeof *filter);
    int rc = filter != NULL ? 0 : -1;

    for (uint16_t i = 0; rc == 0 && i < TF_COUNT(rules); i++) {
        rc = tf_redact_prefilter_add(filter, &rules[i], i);
    }
    if (rc == 0) {
        rc = tf_redact_prefilter_build(filter, kernel);
    }
    if (rc < 0) {
        free(filter);
        return NULL;
    }
    return filter;
}

static bool is_same(const struct tf_redact_hits *a, const struct tf_redact_hits *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        if (a->items[i].at != b->items[i].at || a->items[i].literal != b->items[i].literal) {
            return false;
        }
    }
    return true;
}

int main(void)
{
    char *text = calloc(1, TEXT_BYTES + TF_REDACT_READAHEAD_BYTES);
    struct tf_redact_hits wanted = {.items = calloc(HITS, sizeof *wanted.items), .capacity = HITS};
    struct tf_redact_hits got = {.items = calloc(HITS, sizeof *got.items), .capacity = HITS};
    struct tf_redact_prefilter *plain = make(TF_REDACT_KERNEL_SCALAR);
    unsigned kernels = 0;

    if (text == NULL || wanted.items == NULL || got.items == NULL || plain == NULL) {
        return 1;
    }
    fill(text);
    for (int kernel = TF_REDACT_KERNEL_SCALAR + 1; kernel < (int)TF_REDACT_KERNELS; kernel++) {
        struct tf_redact_prefilter *filter = make((enum tf_redact_kernel)kernel);

        for (size_t cut = 0; filter != NULL && cut < CUTS; cut++) { /* every alignment and end */
            tf_redact_prefilter_scan(plain, text, cut, TEXT_BYTES - 2 * cut, &wanted);
            tf_redact_prefilter_scan(filter, text, cut, TEXT_BYTES - 2 * cut, &got);
            if (wanted.count < 1000 || wanted.full || !is_same(&wanted, &got)) {
                printf("kernel %d finds %u, the plain one %u, from byte %zu\n", kernel, got.count,
                       wanted.count, cut);
                return 1;
            }
        }
        kernels += filter != NULL ? 1 : 0;
        free(filter);
    }
    printf("%u kernels agree with the plain one on %u candidates\n", kernels, wanted.count);
    return kernels > 0 ? 0 : 1;
}
