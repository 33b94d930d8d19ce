/*
 * internal.h - what the files of the parent's room share.
 *
 *     channel.c   messages, both ends
 *     parent.c    the parent: signals, processes, what follows what
 */
#ifndef TAFFRAIL_PARENT_INTERNAL_H
#define TAFFRAIL_PARENT_INTERNAL_H

#include "taffrail/base.h"
#include "taffrail/parent.h"

/* As those of a channel. */
int tf_message_send(int fd, const struct tf_message *message);
int tf_message_receive(int fd, struct tf_message *out);

#endif
