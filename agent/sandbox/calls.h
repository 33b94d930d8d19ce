/*
 * calls.h - allow-lists of system calls: what allowed.c says and calls.c loads.
 */
#ifndef TAFFRAIL_SANDBOX_CALLS_H
#define TAFFRAIL_SANDBOX_CALLS_H

#include "internal.h"

#ifdef TF_HAVE_SECCOMP
#include <seccomp.h>

/* Allowed where all tests hold; of several entries of one call, any. */
struct tf_call {
    int number;
    unsigned test_count;
    struct scmp_arg_cmp tests[2];
};

struct tf_calls {
    const struct tf_call *items;
    size_t count;
};

extern const struct tf_calls tf_allowed_main;
extern const struct tf_calls tf_allowed_programs; /* besides, where main starts a program */
extern const struct tf_calls tf_allowed_opener;
extern const struct tf_calls tf_allowed_launcher; /* and what it starts */
#endif

#endif
