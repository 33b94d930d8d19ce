/*
 * fuzz_forward_answer.c - the parser of what a receiver says back, on any bytes, and of the receipt
 * in it.
 *
 * A whole answer is read alike whatever follows it, no shorter part of it is whole, and what is
 * refused stays refused when more comes. The parser is compiled in, as it belongs to one output
 * alone.
 */
#include <assert.h>
#include <errno.h>

#include "../../outputs/forward/answer.c" /* NOLINT: see above */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct tf_slice part, const uint8_t *data, size_t used)
{
    if (part.size > 0) {
        assert(part.data >= (const char *)data);
        assert(part.data + part.size <= (const char *)data + used);
    }
}

/* A statement that can be read is written as the same bytes; no fuzzer signs one. */
static void check_receipt(const struct tf_answer *answer)
{
    static const uint8_t key[TF_RECEIPT_KEY_BYTES];
    const uint8_t *bytes = (const uint8_t *)answer->receipt.data;
    uint8_t again[TF_RECEIPT_SIGNED_BYTES];
    struct tf_receipt receipt;

    if (answer->receipt.size != TF_RECEIPT_BYTES) {
        return;
    }
    if (tf_receipt_decode(bytes, &receipt) == 0) {
        tf_receipt_encode(&receipt, again);
        assert(memcmp(again, bytes, sizeof again) == 0);
    }
    assert(tf_receipt_check(bytes, key) < 0);
}

static void check_prefixes(const uint8_t *data, size_t size)
{
    struct tf_answer answer = {0};

    for (size_t cut = 0; cut < size && cut < 64; cut++) {
        int64_t rc = tf_answer_parse(tf_slice(data, cut), &answer);

        if (answer.kind == TF_ANSWER_HELLO && rc > 0) {
            return; /* an answer that ends with its first word: the connection does too */
        }
        assert(rc == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_answer answer = {0}, again = {0};
    int64_t rc = tf_answer_parse(tf_slice(data, size), &answer);

    assert(rc >= 0 || rc == -EMSGSIZE || rc == -EPROTO);
    if (rc > 0) {
        size_t used = (size_t)rc;

        assert(used <= size && used <= TF_ANSWER_BYTES_MAX);
        assert(tf_answer_parse(tf_slice(data, used), &again) == rc);
        assert(again.kind == answer.kind && tf_slice_equal(again.chunk, answer.chunk));
        assert(tf_slice_equal(again.receipt, answer.receipt));
        assert(tf_slice_equal(again.key, answer.key));
        check_inside(answer.chunk, data, used);
        check_inside(answer.receipt, data, used);
        check_inside(answer.key, data, used);
        check_receipt(&answer);
        check_prefixes(data, used);
    } else if (rc == 0) {
        assert(size < TF_ANSWER_BYTES_MAX);
    }
    return 0;
}
