/*
 * tsan_suppressions.c - what ThreadSanitizer takes for a race and is none, in every test's program.
 *
 * libuv closes sockets, and the spool opens files (openat), by calls that ThreadSanitizer of this
 * age does not see. A file descriptor that was a socket of the loop and is a file of another thread
 * now is to it still the socket: what the loop did to that and the worker does to the file are the
 * two ends of such a report. None of these calls touches memory of ours.
 */
const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
    return "race_top:accept4\n"
           "race_top:socket\n"
           "race_top:epoll_ctl\n"
           "race_top:fstat\n"
           "race_top:fsync\n"
           "race_top:fdatasync\n"
           "race_top:close\n";
}
