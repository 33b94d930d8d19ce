/*
 * stale.c - what was replaced since the start, so that the sandbox refuses it.
 *
 * A rule of Landlock holds for the file or folder that stood under a name when the agent started.
 * When another takes the name (a folder of logs is deleted and made again, /etc/resolv.conf is
 * written anew and renamed), no rule covers it, and none can be added. Nothing is lost by starting
 * again, so the agent stops, and exits 3 for its service manager to do that. The new start finds
 * what stands there then, so it does not stop for the same reason.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "taffrail/log.h"

struct place {
    char *path;
    bool is_name; /* names are looked up with it */
    dev_t device;
    ino_t inode; /* 0: it was not there */
};

/* Not changed while there are other threads. */
static struct place *places;
static size_t place_count;
static atomic_bool is_outdated;

bool tf_stale_note(const char *path, bool is_name)
{
    struct place *more = realloc(places, (place_count + 1) * sizeof *more);
    struct place *place;
    struct stat status;

    if (more == NULL) {
        return false;
    }
    places = more;
    place = &places[place_count];
    *place = (struct place){.path = strdup(path), .is_name = is_name};
    if (place->path == NULL) {
        return false;
    }
    if (stat(path, &status) == 0) {
        place->device = status.st_dev;
        place->inode = status.st_ino;
    }
    place_count++;
    return true;
}

void tf_stale_forget(void)
{
    for (size_t i = 0; i < place_count; i++) {
        free(places[i].path);
    }
    free(places);
    places = NULL;
    place_count = 0;
}

/* Another stands there, and is refused: in a folder that is open it would not be. */
static bool is_stale(const struct place *place)
{
    struct stat status;
    bool is_other, is_refused;
    int fd;

    tf_sandbox_raise();
    is_other = stat(place->path, &status) == 0 &&
               (status.st_dev != place->device || status.st_ino != place->inode);
    fd = is_other ? open(place->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
    is_refused = is_other && fd < 0 && errno == EACCES;
    tf_sandbox_lower();
    if (fd >= 0) {
        (void)close(fd);
    }
    return is_refused;
}

static bool is_in(const char *path, const char *folder)
{
    size_t size = strlen(folder);

    return strncmp(path, folder, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

void tf_sandbox_look(const char *path)
{
    for (size_t i = 0; i < place_count; i++) {
        const struct place *place = &places[i];

        if ((path != NULL ? is_in(place->path, path) : place->is_name) && is_stale(place) &&
            !atomic_exchange(&is_outdated, true)) {
            tf_log(TF_LOG_ERROR, "sandbox-outdated", TF_DETAILS(TF_STR("path", place->path)),
                   "it was made or replaced since the start, and the sandbox opens only what was "
                   "there then; the agent stops, to be started again");
            (void)kill(getpid(), SIGTERM); /* as a service manager would */
        }
    }
}

bool tf_sandbox_is_outdated(void)
{
    return atomic_load(&is_outdated);
}
