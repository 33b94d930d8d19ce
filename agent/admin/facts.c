/*
 * facts.c - one look at the agent: what the process is, whose certificates end when, whether it is
 * ready.
 */
#include "internal.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static void add_certificate(struct tf_facts *facts, const char *of, const char *name,
                            int64_t until_s)
{
    struct tf_certificate *to;

    if (until_s == 0 || facts->certificate_count == TF_CERTIFICATES_MAX) {
        return;
    }
    to = &facts->certificates[facts->certificate_count++];
    to->until_s = until_s;
    (void)snprintf(to->use, sizeof to->use, "%s%s%s", of, name[0] != '\0' ? "/" : "", name);
}

void tf_facts_certificates(struct tf_facts *facts, int64_t admin_until_s)
{
    const struct tf_status *status = &facts->status;

    facts->certificate_count = 0;
    for (size_t i = 0; i < status->input_count; i++) {
        add_certificate(facts, "input", status->inputs[i].name,
                        status->inputs[i].own.certificate_until_s);
    }
    for (size_t i = 0; i < status->output_count; i++) {
        add_certificate(facts, "output", status->outputs[i].name,
                        status->outputs[i].own.certificate_until_s);
    }
    add_certificate(facts, "admin", "", admin_until_s);
}

static uint64_t count_open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t count = 0;

    while (dir != NULL && readdir(dir) != NULL) { /* ".", ".." and the folder's own */
        count++;
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return count > 3 ? count - 3 : 0;
}

static uint64_t read_resident_bytes(void)
{
    size_t bytes = 0;

    return uv_resident_set_memory(&bytes) == 0 ? bytes : 0;
}

void tf_facts_process(struct tf_facts *facts)
{
    struct rusage usage;
    struct rlimit files;

    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        facts->cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    }
    facts->max_fds = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 0;
    facts->resident_bytes = read_resident_bytes();
    facts->open_fds = count_open_fds();
}

bool tf_facts_ready(const struct tf_status *status, const struct tf_conditions *conditions)
{
    bool is_ready = status->is_started && !status->is_stopping;

    for (unsigned code = 0; code < TF_CONDITIONS; code++) {
        is_ready &= !tf_condition_kinds[code].blocks_ready ||
                    !tf_conditions_hold(conditions, (enum tf_condition_code)code);
    }
    return is_ready;
}
