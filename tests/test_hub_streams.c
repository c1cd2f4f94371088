/* SPDX-License-Identifier: MIT */
/* stdio on descriptors: green_fdopen(). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "filters.h"
#include "hubs.h"

static FILE *open_stream(int fd, const char *mode)
{
    FILE *file = green_fdopen(fd, mode);
    must(file != NULL);
    return file;
}

static void make_pair(int pair[2])
{
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
}

/* ---- Reading and writing --------------------------------------------------------------------- */

/* Notes each line, to the end of the file. */
static void *note_lines(void *fd)
{
    FILE *file = open_stream((int)(intptr_t)fd, "r");
    char *line = NULL;
    size_t size = 0;
    for (ssize_t n; (n = getline(&line, &size, file)) > 0;)
        note("%d:%.*s", (int)n, (int)n - 1, line);
    must(feof(file) && !ferror(file));
    free(line);
    must_be_0(fclose(file));
    return fd;
}

WORLD_TEST(getline_and_fprintf_wait_as_tasks_do)
{
    int pair[2];
    make_pair(pair);
    green_task_t *task = spawn(note_lines, V(pair[0]));
    FILE *file = open_stream(pair[1], "w");
    turn();
    assert_noted("");
    assert_true(fprintf(file, "one %d\ntwo\nth", 1) > 0);
    assert_int_equal(fflush(file), 0);
    nap(1);
    assert_noted("6:one 1 4:two");
    assert_int_equal(fputs("ree\n", file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
    finish(task);
    assert_noted("6:three");
    assert_refused(fcntl(pair[0], F_GETFD), EBADF);
    assert_refused(fcntl(pair[1], F_GETFD), EBADF);
}

enum { MUCH = 400000 };

static void *read_much(void *fd)
{
    FILE *file = open_stream((int)(intptr_t)fd, "r");
    long n = 0;
    for (int c; (c = getc(file)) != EOF; n++)
        must(c == (int)(n % 251));
    must(!ferror(file));
    must_be_0(fclose(file));
    return V(n);
}

WORLD_TEST(more_than_the_socket_holds_is_written_while_another_task_reads)
{
    int pair[2];
    make_pair(pair);
    green_task_t *task = spawn(read_much, V(pair[0]));
    FILE *file = open_stream(pair[1], "w");
    for (long n = 0; n < MUCH; n++)
        assert_true(putc((int)(n % 251), file) != EOF);
    assert_int_equal(fclose(file), 0);
    assert_ptr_equal(finish(task), V(MUCH));
}

/* Answers each line by the same in brackets. */
static void *answer_lines(void *fd)
{
    char line[64];
    int copy = dup((int)(intptr_t)fd);
    FILE *in = open_stream((int)(intptr_t)fd, "r"), *out = open_stream(copy, "w");
    while (fgets(line, sizeof line, in) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        must(fprintf(out, "[%s]\n", line) > 0 && fflush(out) == 0);
    }
    must_be_0(fclose(in));
    must_be_0(fclose(out));
    return fd;
}

static void *ask_lines(void *file)
{
    for (int i = 0; i < 3; i++) {
        must(fprintf(file, "line %d\n", i) > 0 && fflush(file) == 0);
        turn();
    }
    return file;
}

WORLD_TEST(one_task_reads_while_another_writes_by_a_dup)
{
    int pair[2];
    char line[64];
    make_pair(pair);
    green_task_t *server = spawn(answer_lines, V(pair[0]));
    FILE *in = open_stream(pair[1], "r"), *out = open_stream(dup(pair[1]), "w");
    green_task_t *asks = spawn(ask_lines, out);
    for (int i = 0; i < 3; i++) {
        assert_non_null(fgets(line, sizeof line, in));
        note("%.*s", (int)strcspn(line, "\n"), line);
    }
    assert_noted("[line 0] [line 1] [line 2]");
    finish(asks);
    assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(fclose(in), 0);
    finish(server);
}

WORLD_TEST(it_works_on_pipes_and_on_files)
{
    int ends[2], fd = memfd_create("file", MFD_CLOEXEC);
    char text[16] = "";
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    FILE *out = open_stream(ends[1], "w"), *in = open_stream(ends[0], "r");
    assert_true(fputs("hello\n", out) >= 0);
    assert_int_equal(fclose(out), 0);
    assert_ptr_equal(fgets(text, sizeof text, in), text);
    assert_string_equal(text, "hello\n");
    assert_null(fgets(text, sizeof text, in));
    assert_int_equal(fclose(in), 0);

    FILE *file = open_stream(fd, "w+");
    assert_true(fputs("0123456789", file) >= 0);
    assert_int_equal(fseek(file, 4, SEEK_SET), 0);
    assert_int_equal(fread(text, 1, 3, file), 3);
    assert_memory_equal(text, "456", 3);
    assert_int_equal(ftell(file), 7);
    rewind(file);
    assert_int_equal(getc(file), '0');
    assert_int_equal(fclose(file), 0);
}

WORLD_TEST(on_a_terminal_a_line_is_written_when_it_is_whole)
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0)
        skip_because("there are no terminals");
    int fd = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(fd >= 0);
    errno = E1;
    FILE *file = open_stream(fd, "w");
    assert_int_equal(errno, E1);
    struct pollfd other = { .fd = terminal, .events = POLLIN };
    assert_true(fputs("part", file) >= 0);
    assert_int_equal(poll(&other, 1, 0), 0);
    assert_true(fputs(" of a line\n", file) >= 0);
    assert_int_equal(poll(&other, 1, 20000), 1);
    assert_int_equal(fclose(file), 0);
    close(terminal);
}

/* ---- What it refuses ------------------------------------------------------------------------- */

WORLD_TEST(modes_that_do_not_fit_are_refused)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_null_errno(green_fdopen(ends[0], NULL), EINVAL);
    assert_null_errno(green_fdopen(ends[0], "x"), EINVAL);
    assert_null_errno(green_fdopen(ends[0], ""), EINVAL);
    assert_null_errno(green_fdopen(ends[0], "w"), EINVAL);
    assert_null_errno(green_fdopen(ends[0], "r+"), EINVAL);
    assert_null_errno(green_fdopen(ends[1], "r"), EINVAL);
    close(ends[0]);
    close(ends[1]);
    assert_null_errno(green_fdopen(ends[0], "r"), EBADF);
    assert_null_errno(green_fdopen(-1, "r"), EBADF);
}

/* ---- Failures -------------------------------------------------------------------------------- */

WORLD_TEST(a_read_whose_time_is_over_sets_ferror)
{
    int pair[2];
    char line[16];
    make_pair(pair);
    FILE *file = open_stream(pair[0], "r");
    GREEN_SCOPE(limit, GREEN_MS(1), 0);
    errno = 0;
    assert_null(fgets(line, sizeof line, file));
    assert_int_equal(errno, ETIMEDOUT);
    assert_true(ferror(file) && !feof(file));
    assert_int_equal(green_scope_end(&limit), 1);
    assert_int_equal(fclose(file), 0);
    close(pair[1]);
}

WORLD_TEST(a_write_that_fails_says_so)
{
    int pair[2];
    make_pair(pair);
    close(pair[1]);
    FILE *file = open_stream(pair[0], "w");
    assert_true(fputs("nobody reads this", file) >= 0);
    errno = 0;
    assert_int_equal(fflush(file), EOF);
    assert_int_equal(errno, EPIPE);
    assert_true(ferror(file));
    (void)fclose(file);
    assert_refused(fcntl(pair[0], F_GETFD), EBADF);
}

WORLD_TEST(a_write_that_fails_in_the_middle_says_so)
{
    int pair[2];
    char *much = calloc(1, 1 << 20);
    make_pair(pair);
    FILE *file = open_stream(pair[0], "w");
    GREEN_SCOPE(limit, GREEN_MS(2), 0);
    assert_true(fwrite(much, 1, 1 << 20, file) < 1 << 20);
    assert_true(ferror(file));
    assert_int_equal(green_scope_end(&limit), 1);
    close(pair[1]);
    (void)fclose(file);
    free(much);
}

static void *close_cancelled(void *fd)
{
    FILE *file = open_stream((int)(intptr_t)fd, "w");
    must(fputs("lost", file) >= 0);
    must_be_0(green_task_cancel(green_task_current()));
    must(fclose(file) == EOF);
    return fd;
}

static void *close_shielded(void *fd)
{
    FILE *file = open_stream((int)(intptr_t)fd, "w");
    must(fputs("kept", file) >= 0);
    must_be_0(green_task_cancel(green_task_current()));
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    must_be_0(fclose(file));
    return fd;
}

WORLD_TEST(in_a_cancelled_task_fclose_closes_and_a_shield_keeps_what_is_written)
{
    int pair[2];
    char text[8];
    make_pair(pair);
    finish(spawn(close_cancelled, V(pair[0])));
    assert_int_equal(green_read(pair[1], text, sizeof text), 0);
    close(pair[1]);
    make_pair(pair);
    finish(spawn(close_shielded, V(pair[0])));
    assert_int_equal(green_read(pair[1], text, sizeof text), 4);
    assert_memory_equal(text, "kept", 4);
    close(pair[1]);
}

static void *read_line(void *file)
{
    char line[16];
    errno = 0;
    must(fgets(line, sizeof line, file) == NULL && ferror(file));
    return V(errno);
}

WORLD_TEST(a_cancel_wakes_a_task_that_reads)
{
    int pair[2];
    make_pair(pair);
    FILE *file = open_stream(pair[0], "r");
    green_task_t *task = spawn(read_line, file);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_ptr_equal(finish(task), V(ECANCELED));
    assert_int_equal(fclose(file), 0);
    close(pair[1]);
}

/* ---- exit() ---------------------------------------------------------------------------------- */

static void *never_runs(void *unused)
{
    fputs("ran", stderr);
    return unused;
}

static int exit_unflushed(void *fd)
{
    FILE *file = open_stream((int)(intptr_t)fd, "w");
    must(fputs("at exit", file) >= 0);
    spawn(never_runs, NULL);
    exit(7);
}

static void *exit_in_task(void *fd)
{
    exit_unflushed(fd);
    return NULL;
}

static int exit_unflushed_in_task(void *fd)
{
    finish(spawn(exit_in_task, fd));
    return 0;
}

WORLD_TEST(what_is_left_at_exit_is_written_and_no_task_runs)
{
    int (*ways[])(void *) = { exit_unflushed, exit_unflushed_in_task };
    for (int i = 0; i < 2; i++) {
        int pair[2];
        char text[16];
        make_pair(pair);
        struct child child = run_child(ways[i], V(pair[0]));
        assert_string_equal(child.err, "");
        assert_int_equal(child.status, 7 << 8);
        assert_int_equal(read(pair[1], text, sizeof text), 7);
        assert_memory_equal(text, "at exit", 7);
        close(pair[0]);
        close(pair[1]);
    }
}

WORLD_TEST(at_exit_too_no_socket_raises_SIGPIPE)
{
    int pair[2];
    make_pair(pair);
    close(pair[1]);
    void (*before)(int) = signal(SIGPIPE, SIG_DFL);
    struct child child = run_child(exit_unflushed, V(pair[0]));
    signal(SIGPIPE, before);
    assert_int_equal(child.status, 7 << 8);
    close(pair[0]);
}

enum { STREAMED = 1 << 20 };

static char in_turn(int place)
{
    return (char)('a' + place % 23);
}

static void *flush_much(void *stream)
{
    FILE *file = stream;
    for (int i = 0; i < STREAMED; i++)
        must(putc(in_turn(i), file) != EOF);
    fflush(file);
    return stream;
}

static int exit_in_the_middle_of_a_write(void *fd)
{
    static char buffer[2 * STREAMED];
    FILE *file = open_stream((int)(intptr_t)fd, "w");
    must_be_0(setvbuf(file, buffer, _IOFBF, sizeof buffer));
    spawn(flush_much, file);
    turn(); /* it waits until somebody reads, or has just been told to go on */
    exit(7);
}

/* How much comes until the end; -1: not what should. */
static int count_in_turn(int fd)
{
    char bytes[4096];
    int count = 0;
    for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            if (bytes[i] != in_turn(count++))
                return -1;
    return count;
}

WORLD_TEST(of_what_a_task_was_writing_at_exit_the_rest_is_written)
{
    int pair[2], status;
    make_pair(pair);
    pid_t reader = fork();
    if (reader == 0) {
        close(pair[0]);
        leave_child(count_in_turn(pair[1]) == STREAMED ? 0 : 1);
    }
    close(pair[1]);
    struct child child = run_child(exit_in_the_middle_of_a_write, V(pair[0]));
    assert_int_equal(child.status, 7 << 8);
    close(pair[0]);
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_int_equal(status, 0);
}

int main(void)
{
    return run_all_tests();
}
