/*
 * tsan_suppressions.c - what ThreadSanitizer takes for a race and is none, in every test's program.
 *
 * libuv closes sockets, and the spool opens files (openat), by calls that ThreadSanitizer of this
 * age does not see. A file descriptor that was a socket of the loop and is a file of another thread
 * now is to it still the socket; the first call on such a file is fstat.
 */
const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
    return "race_top:fstat\n";
}
