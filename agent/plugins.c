/*
 * plugins.c - all kinds of inputs, filters and outputs: a new one is one line here.
 */
#include "taffrail/config.h"
#include "taffrail/input.h"
#include "taffrail/output.h"

static const struct tf_input_kind *const inputs[] = {&tf_input_container, &tf_input_forward,
                                                     &tf_input_journald, NULL};
static const struct tf_filter_kind *const filters[] = {&tf_filter_multiline,
                                                       &tf_filter_kubernetes,
                                                       &tf_filter_parse_json,
                                                       &tf_filter_select,
                                                       &tf_filter_edit,
                                                       &tf_filter_redact,
                                                       NULL};
static const struct tf_output_kind *const outputs[] = {&tf_output_forward, &tf_output_file,
                                                       &tf_output_stdout, NULL};

const struct tf_plugins tf_plugins = {.inputs = inputs, .filters = filters, .outputs = outputs};
