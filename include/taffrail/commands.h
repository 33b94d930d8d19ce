/*
 * commands.h - the commands of the one binary, a file each in agent/commands/.
 *
 * argv[0] is the command's name. Returns the exit code: 0 fine, 1 it found what it was asked to
 * find wrong, 2 usage or configuration, 3 could not run.
 */
#ifndef TAFFRAIL_COMMANDS_H
#define TAFFRAIL_COMMANDS_H

int tf_command_redact(int argc, char **argv);

#endif
