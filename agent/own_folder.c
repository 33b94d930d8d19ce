/*
 * own_folder.c - `own-folder`: gives a folder to the agent's user, once.
 *
 * The spool of a node lies on the node (hostPath), where Kubernetes makes its folder for root, and
 * the agent is not root. The chart runs this before the agent, as root with CAP_CHOWN only, in the
 * same image: so no foreign image with a shell is needed.
 *
 * usage: own-folder FOLDER: mode 0700, owner and group 65532. A folder that is so already is left
 * alone, and one that belongs to somebody else than root is refused: it is not ours to take. What
 * is in it is not touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AGENT_ID 65532u

static int fail(const char *folder, const char *what)
{
    (void)fprintf(stderr, "own-folder: %s: %s\n", folder, what);
    return 1;
}

int main(int argc, char **argv)
{
    struct stat st;
    int fd;

    if (argc != 2) {
        return fail("usage", "own-folder FOLDER");
    }
    if (lstat(argv[1], &st) < 0) {
        return fail(argv[1], strerrordesc_np(errno));
    }
    if (S_ISDIR(st.st_mode) && st.st_uid == AGENT_ID) {
        return 0;
    }
    fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return fail(argv[1], strerrordesc_np(errno));
    }
    if (st.st_uid != 0) {
        return fail(argv[1], "belongs to another user; give it to root, or name another folder");
    }
    if (fchmod(fd, 0700) < 0 || fchown(fd, AGENT_ID, AGENT_ID) < 0) {
        return fail(argv[1], strerrordesc_np(errno));
    }
    return 0;
}
