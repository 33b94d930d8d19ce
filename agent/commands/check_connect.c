/*
 * check_connect.c - `taffrail check --connect`: would the outputs deliver from here?
 *
 * Each output is opened as `run` would, and its `probe` (output.h) tries its receivers with the
 * same settings; this file runs the loop and prints. A table a receiver, a line a step: its name,
 * ok, FAIL or a dash where nothing is known, what was found, how long it took. Nothing is sent that
 * a receiver would store.
 */
#include "check_connect.h"

#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>

#include <uv.h>

#include "taffrail/commands.h"
#include "taffrail/output.h"

#define TEXT_COLUMN 28 /* where texts begin */

struct connecting {
    uv_loop_t loop;
    bool as_json, is_utf8;
    struct tf_error err; /* with as_json: what failed */
    const char *output;
    uint32_t receivers, failed; /* of this output */
    uint32_t outputs, dead_outputs, all_receivers, all_failed;
    bool has_unknown;
};

/* ---- what is told --------------------------------------------------------------------------- */

static const char *state_word(const struct connecting *all, enum tf_probe_state state)
{
    switch (state) {
    case TF_PROBE_OK:
        return "ok   ";
    case TF_PROBE_FAILED:
        return "FAIL ";
    case TF_PROBE_NOT_REACHED:
    case TF_PROBE_UNKNOWN:
        break;
    }
    return all->is_utf8 ? "–    " : "-    ";
}

static void print_step(const struct connecting *all, const struct tf_probe_step *step)
{
    (void)printf("  %-17s  %s  ", step->name, state_word(all, step->state));
    if (step->is_timed) {
        (void)printf("%-54s %6" PRIu64 " ms\n", step->text, step->took_ms);
    } else {
        (void)printf("%s\n", step->text);
    }
    if (step->about[0] != '\0') {
        (void)printf("%*s%s\n", TEXT_COLUMN, "", step->about);
    }
}

static void print_probe(const struct connecting *all, const struct tf_probe *probe)
{
    (void)printf("output \"%s\", %s\n", all->output, probe->receiver);
    for (uint32_t i = 0; i < probe->step_count; i++) {
        print_step(all, &probe->steps[i]);
    }
    if (probe->mend[0] != '\0') {
        (void)printf("  mend: %s\n", probe->mend);
    }
    (void)fflush(stdout); /* the next one may take a while */
}

static void on_probed(void *ctx, const struct tf_probe *probe)
{
    struct connecting *all = ctx;
    const struct tf_probe_step *failed = tf_probe_find(probe, TF_PROBE_FAILED);

    all->receivers++;
    all->failed += failed != NULL;
    all->has_unknown |= tf_probe_find(probe, TF_PROBE_UNKNOWN) != NULL;
    if (!all->as_json) {
        print_probe(all, probe);
    } else if (failed != NULL) {
        (void)tf_error_add(&all->err, &probe->at, "output \"%s\", %s: %s: %s; %s", all->output,
                           probe->receiver, failed->name, failed->text, probe->mend);
    }
}

static void print_sum(const struct connecting *all, FILE *to)
{
    if (all->outputs == 0) {
        (void)fputs("no output connects to anything\n", to);
    } else if (all->dead_outputs > 0) {
        (void)fprintf(to, "%u of %u outputs would not deliver\n", all->dead_outputs, all->outputs);
    } else if (all->all_failed > 0) {
        (void)fprintf(to, "%u of %u outputs would deliver, but not to %u of %u hosts\n",
                      all->outputs, all->outputs, all->all_failed, all->all_receivers);
    } else {
        (void)fprintf(to, "%u of %u outputs would deliver%s\n", all->outputs, all->outputs,
                      all->has_unknown ? ", as far as can be known without sending" : "");
    }
}

/* ---- trying --------------------------------------------------------------------------------- */

/* The loop ends by itself when all is closed. */
static void on_end(void *ctx)
{
    (void)ctx;
}

/* It was opened before and is sound; what there is to warn of has been said. */
static int open_again(struct connecting *all, const struct tf_plugin_config *item, void **self)
{
    const struct tf_output_kind *kind = item->kind;
    const struct tf_output_args args = {
        .name = item->name, .options = item->options, .at = item->at, .loop = &all->loop};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = kind->open(&args, self, &err);
    tf_error_fini(&err);
    return rc;
}

static int try_output(struct connecting *all, const struct tf_plugin_config *item)
{
    const struct tf_output_kind *kind = item->kind;
    const struct tf_probe_events events = {.ctx = all, .on_probed = on_probed, .on_done = on_end};
    void *self;
    int rc = open_again(all, item, &self);

    if (rc < 0) {
        return rc;
    }
    all->output = item->name;
    all->receivers = all->failed = 0;
    rc = kind->probe(self, &events);
    (void)uv_run(&all->loop, UV_RUN_DEFAULT);
    kind->close(self, on_end, NULL);
    (void)uv_run(&all->loop, UV_RUN_DEFAULT);
    all->outputs++;
    all->all_receivers += all->receivers;
    all->all_failed += all->failed;
    all->dead_outputs += all->failed > 0 && all->failed == all->receivers;
    return rc;
}

static int try_outputs(struct connecting *all, const struct tf_plugin_list *outputs)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < outputs->count; i++) {
        const struct tf_output_kind *kind = outputs->items[i].kind;

        if (kind->probe != NULL) {
            rc = try_output(all, &outputs->items[i]);
        } else if (!all->as_json) {
            (void)printf("output \"%s\" connects to nothing\n", outputs->items[i].name);
        }
    }
    return rc;
}

int tf_check_connect(const struct tf_config *config, bool as_json)
{
    struct connecting all = {.as_json = as_json};
    char reason[128];
    int rc = uv_loop_init(&all.loop);

    if (rc == 0) {
        (void)signal(SIGPIPE, SIG_IGN); /* a receiver may close while we write */
        (void)setlocale(LC_CTYPE, "");
        all.is_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
        tf_error_init(&all.err);
        rc = try_outputs(&all, &config->outputs);
        (void)uv_loop_close(&all.loop);
        tf_error_print_json(&all.err, stdout);
        tf_error_fini(&all.err);
    }
    if (rc < 0) {
        (void)fprintf(stderr, "check: cannot go on: %s\n",
                      uv_strerror_r(rc, reason, sizeof reason));
        return TF_EXIT_CANNOT_RUN;
    }
    print_sum(&all, as_json ? stderr : stdout);
    return all.all_failed > 0 ? TF_EXIT_FOUND : TF_EXIT_FINE;
}
