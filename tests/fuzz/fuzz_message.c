/*
 * fuzz_message.c - what a main that was taken over may say to its parent: a message is one only
 * with a word and a format that there are, and a text that ends.
 */
#include <assert.h>
#include <stdlib.h>

#include "taffrail/base.h"
#include "taffrail/log.h"
#include "taffrail/parent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_it(const uint8_t *data, size_t size)
{
    char *copy = malloc(size == 0 ? 1 : size); /* exact: reading past it is seen */
    struct tf_message message;

    if (copy == NULL) {
        abort();
    }
    memcpy(copy, data, size);
    if (tf_message_read(copy, size, &message)) {
        assert(size == sizeof message && message.word < TF_WORDS);
        assert(message.log_format <= TF_LOG_JSON && (int)message.is_reload <= 1);
        assert(memchr(message.text, '\0', sizeof message.text) != NULL);
    }
    free(copy);
}

/* As it is, and as the beginning of one of the right size. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t whole[sizeof(struct tf_message)] = {0};

    memcpy(whole, data, size < sizeof whole ? size : sizeof whole);
    read_it(data, size);
    read_it(whole, sizeof whole);
    return 0;
}
