/*
 * fuzz_undo.c - any bytes, with their escapes undone until nothing is left to undo.
 *
 * What must hold: the quick look misses nothing that is undone; a text never grows; each place of
 * what came of it is one of the written text, in order; what is undone often enough stays.
 */
#include <assert.h>
#include <stdlib.h>

#include "../../filters/redact/undo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_places(const struct tf_redact_undone *undone, size_t size)
{
    struct tf_redact_written place = {0};
    size_t last = 0;

    for (size_t i = 0; i <= undone->size; i++) {
        size_t at = tf_redact_written_at(undone, &place, i);

        assert(at >= last && at <= size);
        last = at;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_redact_undone undone = {.size = 0};
    char *copy = malloc(size > 0 ? size : 1); /* exact: reading past it is seen */
    struct tf_slice written;
    unsigned times = 0;
    int rc;

    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    written = tf_slice(copy, size);
    rc = tf_redact_undo(&undone, written);
    assert(rc <= 0 || tf_redact_may_undo(written));
    while (rc > 0) {
        size_t before = undone.size;

        assert(before <= size && ++times <= TF_REDACT_UNDO_DEPTH);
        check_places(&undone, size);
        rc = tf_redact_undo_again(&undone);
        assert(undone.size <= before);
    }
    if (rc == 0 && times == 0) {
        assert(undone.size == size && (size == 0 || memcmp(undone.text, copy, size) == 0));
    }
    tf_redact_undone_wipe(&undone, true);
    free(copy);
    return 0;
}
