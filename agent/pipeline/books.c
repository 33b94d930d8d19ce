/*
 * books.c - the ledger: every record is accounted for.
 *
 *     decoded                    = spooled + joined + filtered + held
 *     pending at start + spooled = acked + skipped + expired + rejected + pending    (each output)
 *
 * A batch is booked when its frame is durable, so that a restart counts nothing twice; hits of the
 * filters' rules with it. The outputs' side is kept by their feeds. The agent's own records are in
 * `spooled` too.
 */
#include "internal.h"

#include <stdlib.h>

void tf_books_take(struct tf_pipeline *pipeline, const struct part *part)
{
    struct books *books = &pipeline->books;

    books->decoded += (uint64_t)part->records + part->joined + part->filtered;
    books->spooled += part->records;
    books->joined += part->joined;
    books->filtered += part->filtered;
    books->redacted += part->redacted;
    books->withheld += part->withheld;
    for (unsigned i = 0; i < TF_WITHHELD_REASONS; i++) {
        books->withheld_by[i] += part->withheld_by[i];
    }
    if (part->source != NULL) {
        struct input *input = &pipeline->inputs[part->source->input];

        input->records += (uint64_t)part->records + part->joined + part->filtered;
        input->malformed += part->malformed;
        input->truncated += part->truncated;
    }
}

/* The book of a rule, made at its first hit; NULL without memory: the hit is then not told. */
static struct rule_book *find_rule(struct tf_pipeline *pipeline, const struct tf_tally *tally)
{
    struct rule_book *book;

    for (uint32_t i = 0; i < pipeline->rule_book_count; i++) {
        book = &pipeline->rule_books[i];
        if (book->filter == tally->filter && book->rule == tally->rule) {
            return book;
        }
    }
    if (pipeline->rule_book_count == pipeline->rule_book_capacity) {
        uint32_t capacity = pipeline->rule_book_capacity + TF_BATCH_TALLIES_MAX;

        book = realloc(pipeline->rule_books, capacity * sizeof *book);
        if (book == NULL) {
            return NULL;
        }
        pipeline->rule_books = book;
        pipeline->rule_book_capacity = capacity;
    }
    book = &pipeline->rule_books[pipeline->rule_book_count++];
    *book = (struct rule_book){.filter = tally->filter, .rule = tally->rule};
    return book;
}

void tf_books_take_tallies(struct tf_pipeline *pipeline, const struct tf_tally *tallies,
                           uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct rule_book *book = find_rule(pipeline, &tallies[i]);

        if (book != NULL) {
            book->hits += tallies[i].hits;
        }
    }
}

bool tf_books_is_withheld(uint16_t rule)
{
    return rule != TF_RULE_OTHERS && (rule & TF_RULE_WITHHELD) != 0;
}

const char *tf_books_rule_name(const struct tf_pipeline *pipeline, const struct rule_book *book)
{
    const struct filter *filter = &pipeline->filters->items[book->filter];
    uint16_t rule =
        tf_books_is_withheld(book->rule) ? book->rule & (uint16_t)~TF_RULE_WITHHELD : book->rule;
    const char *name = filter->kind->rule_name(filter->self, rule);

    return name != NULL ? name : rule == TF_RULE_NONE ? "none" : "others";
}

void tf_books_tell_withheld(struct tf_pipeline *pipeline, const struct tf_tally *tallies,
                            uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct rule_book *book =
            tf_books_is_withheld(tallies[i].rule) ? find_rule(pipeline, &tallies[i]) : NULL;
        const char *name;

        if (book == NULL || book->is_told) {
            continue;
        }
        book->is_told = true;
        name = tf_books_rule_name(pipeline, book);
        tf_log(TF_LOG_WARN, "withheld", TF_DETAILS(TF_STR("rule", name)),
               "a text could not be scanned in bounds and is withheld from there on");
        (void)tf_pipeline_audit(pipeline, "withheld",
                                "a text could not be scanned in bounds and is withheld from there "
                                "on; further ones are counted",
                                TF_DETAILS(TF_STR("rule", name)));
    }
}

static void log_rule(const struct tf_pipeline *pipeline, const struct rule_book *book)
{
    const char *filter = pipeline->config->filters.items[book->filter].name;
    const char *name = tf_books_rule_name(pipeline, book);

    if (tf_books_is_withheld(book->rule)) {
        tf_log_answer("books",
                      TF_DETAILS(TF_STR("filter", filter), TF_STR("rule", name),
                                 TF_NUM("withheld", book->hits)),
                      "what a rule's limits withheld since start");
    } else {
        tf_log_answer(
            "books",
            TF_DETAILS(TF_STR("filter", filter), TF_STR("rule", name), TF_NUM("hits", book->hits)),
            "hits of a rule since start");
    }
}

static void log_lag(const struct input *input)
{
    struct tf_input_status status;

    if (input->kind->tell_lag == NULL) {
        return;
    }
    input->kind->status(input->self, &status);
    tf_log_answer("lag",
                  TF_DETAILS(TF_STR("input", input->name), TF_NUM("sources", status.sources),
                             TF_NUM("lag_bytes", status.lag_bytes), TF_NUM("lag_ms", status.lag_ms),
                             TF_NUM("deleted_bytes", status.deleted_bytes)),
                  "how far reading is behind");
    input->kind->tell_lag(input->self);
}

static void log_output(const struct output *output)
{
    struct tf_feed_status status;

    tf_feed_status(output->feed, &status);
    tf_log_answer("books",
                  TF_DETAILS(TF_STR("output", output->name),
                             TF_NUM("pending_at_start", status.pending_at_start),
                             TF_NUM("acked", status.acked), TF_NUM("skipped", status.skipped),
                             TF_NUM("expired", status.expired), TF_NUM("rejected", status.rejected),
                             TF_NUM("pending", status.pending)),
                  "what was delivered since start");
}

void tf_pipeline_log_books(struct tf_pipeline *pipeline)
{
    const struct books *books = &pipeline->books;

    tf_log_answer("books",
                  TF_DETAILS(TF_NUM("decoded", books->decoded + books->held),
                             TF_NUM("spooled", books->spooled), TF_NUM("joined", books->joined),
                             TF_NUM("filtered", books->filtered), TF_NUM("held", books->held),
                             TF_NUM("redacted", books->redacted),
                             TF_NUM("withheld", books->withheld)),
                  "what was read since start");
    for (uint32_t i = 0; i < pipeline->rule_book_count; i++) {
        log_rule(pipeline, &pipeline->rule_books[i]);
    }
    for (size_t i = 0; i < pipeline->output_count; i++) {
        if (pipeline->outputs[i].feed != NULL) {
            log_output(&pipeline->outputs[i]);
        }
    }
    for (size_t i = 0; i < pipeline->input_count; i++) {
        if (pipeline->inputs[i].open) {
            log_lag(&pipeline->inputs[i]);
        }
    }
}

int tf_books_audit(struct tf_pipeline *pipeline)
{
    const struct books *books = &pipeline->books;

    return tf_pipeline_audit(
        pipeline, "stop", pipeline->is_leaving ? "another main takes over" : "the agent stops",
        TF_DETAILS(TF_NUM("decoded", books->decoded), TF_NUM("spooled", books->spooled),
                   TF_NUM("joined", books->joined), TF_NUM("filtered", books->filtered),
                   TF_NUM("redacted", books->redacted), TF_NUM("withheld", books->withheld)));
}
