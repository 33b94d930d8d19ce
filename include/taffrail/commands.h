/*
 * commands.h - the commands of the one binary, a file each in agent/commands/.
 *
 * argv[0] is the command's name. Each returns its exit code, the same for all.
 */
#ifndef TAFFRAIL_COMMANDS_H
#define TAFFRAIL_COMMANDS_H

enum tf_exit {
    TF_EXIT_FINE = 0,
    TF_EXIT_FOUND = 1, /* it found what it was asked to find wrong */
    TF_EXIT_USAGE = 2, /* usage or configuration */
    TF_EXIT_CANNOT_RUN = 3,
};

#define TF_CONFIG_FILE_DEFAULT "/etc/taffrail/taffrail.yaml"

int tf_command_check(int argc, char **argv);
int tf_command_pki(int argc, char **argv);
int tf_command_pki_seal(int argc, char **argv); /* argv[0] is "seal" */
int tf_command_redact(int argc, char **argv);
int tf_command_replay(int argc, char **argv);
int tf_command_rules(int argc, char **argv);
int tf_command_run(int argc, char **argv);
int tf_command_status(int argc, char **argv);
int tf_command_tap(int argc, char **argv);
int tf_command_verify(int argc, char **argv);

#endif
