/*
 * fuzz_opener_request.c - what a hostile main may ask the opener for (docs/opener.md).
 *
 * What decodes must encode to the same bytes again. Then it is done, on a small tree with planted
 * links: whatever is opened lies below a root, and is the one file that may be opened, or a folder.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../agent/opener/internal.h"

static struct tf_opener opener;
static char dir[64];
static int dir_fd;

static void must(int rc)
{
    if (rc < 0) {
        abort();
    }
}

static void add_root(const char *name)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    must(mkdirat(dir_fd, name, 0755));
    must(tf_opener_add_root(&opener, path));
}

static void put(const char *name)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    must(fd);
    (void)close(fd);
}

static void plant(void)
{
    put("secret");
    put("a/f");
    must(mkdirat(dir_fd, "a/d", 0755));
    must(symlinkat("../f", dir_fd, "a/d/l"));
    must(symlinkat("../secret", dir_fd, "a/s"));
    must(symlinkat("../secret", dir_fd, "b/s"));
    must(symlinkat("../b/t", dir_fd, "a/t"));
    must(symlinkat("../a/f", dir_fd, "b/t"));
    must(symlinkat("..", dir_fd, "a/u"));
    must(linkat(dir_fd, "secret", dir_fd, "a/h", 0));
    must(mkfifoat(dir_fd, "a/p", 0600));
}

static void remove_tree(void)
{
    static const char *const names[] = {"a/d/l", "a/s", "a/t", "a/u", "a/h",
                                        "a/p",   "a/f", "b/s", "b/t", "secret"};

    for (size_t i = 0; i < TF_COUNT(names); i++) {
        (void)unlinkat(dir_fd, names[i], 0);
    }
    (void)unlinkat(dir_fd, "a/d", AT_REMOVEDIR);
    (void)unlinkat(dir_fd, "a", AT_REMOVEDIR);
    (void)unlinkat(dir_fd, "b", AT_REMOVEDIR);
    (void)rmdir(dir);
}

static void set_up(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(dir, sizeof dir, "%s/taffrail-fuzz-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(dir) == NULL) {
        abort();
    }
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(dir_fd);
    must(tf_opener_init(&opener));
    add_root("a");
    add_root("b");
    plant();
    (void)atexit(remove_tree);
}

static void check_opened(enum tf_open_op op, const struct tf_answer *answer)
{
    char link[64], path[4096];
    struct stat status;
    ssize_t size;

    if (answer->opened.fd < 0) {
        return;
    }
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", answer->opened.fd);
    size = readlink(link, path, sizeof path - 1);
    assert(size > 0);
    path[size] = '\0';
    assert(strncmp(path, dir, strlen(dir)) == 0 && path[strlen(dir)] == '/');
    assert(strncmp(path + strlen(dir) + 1, "a", 1) == 0 ||
           strncmp(path + strlen(dir) + 1, "b", 1) == 0);
    assert(fstat(answer->opened.fd, &status) == 0);
    assert(op == TF_OPEN_DIR ? S_ISDIR(status.st_mode) : strcmp(path + strlen(dir), "/a/f") == 0);
    (void)close(answer->opened.fd);
}

static void perform(const struct tf_request *request)
{
    uint8_t reply[TF_REPLY_BYTES_MAX];
    struct tf_answer answer, heard;
    uint32_t id;

    if (request->asked.op != TF_OPEN_WATCH && request->asked.spot.root >= opener.root_count) {
        return;
    }
    tf_rules_perform(&opener, &request->asked, &answer);
    assert(tf_reply_decode(reply, tf_reply_encode(request->id, &answer, reply), &id, &heard) == 0);
    assert(id == request->id);
    check_opened(request->asked.op, &answer);
}

/* The same with a path of names that are there, one a byte. */
static void perform_on_names(const struct tf_request *request, const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a", "b", "d", "f", "h", "l",
                                        "p", "s", "t", "u", ".", ".."};
    uint8_t bytes[TF_REQUEST_BYTES_MAX];
    struct tf_request named = *request;
    size_t used;

    named.asked.spot.rest[0] = '\0';
    used = tf_request_encode(&named, bytes);
    for (size_t i = TF_REQUEST_HEAD; i < size && i < TF_REQUEST_HEAD + 8; i++) {
        used += (size_t)snprintf((char *)bytes + used, 4, "%s%s", used > TF_REQUEST_HEAD ? "/" : "",
                                 names[data[i] % TF_COUNT(names)]);
    }
    if (tf_request_decode(bytes, used, &named) == 0) {
        perform(&named);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t again[TF_REQUEST_BYTES_MAX];
    struct tf_request request;

    if (dir[0] == '\0') {
        set_up();
    }
    if (tf_request_decode(data, size, &request) < 0) {
        return 0;
    }
    assert(tf_request_encode(&request, again) == size && memcmp(again, data, size) == 0);
    perform(&request);
    perform_on_names(&request, data, size);
    return 0;
}
