/* SPDX-License-Identifier: MIT */
/*
 * Regular files (rule 17): what is in memory is moved at once, the rest by a thread of the
 * pool.  The preadv() of this program can be held, and tells its thread.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "filters.h"
#include "hubs.h"

/* ---- The libc of this program --------------------------------------------------------------- */

static sem_t gate, begun;
static atomic_bool held;
static atomic_int in_hub_thread, in_pool;
static pthread_t hub_thread;

ssize_t preadv(int fd, const struct iovec *parts, int n, off_t offset)
{
    *(pthread_equal(pthread_self(), hub_thread) ? &in_hub_thread : &in_pool) += 1;
    if (held) {
        sem_post(&begun);
        while (sem_wait(&gate) != 0)
            continue;
    }
    return syscall(SYS_preadv, fd, parts, (unsigned long)n, (unsigned long)offset, 0);
}

static int begin(void **state)
{
    hub_thread = pthread_self();
    in_hub_thread = in_pool = 0;
    held = false;
    sem_init(&gate, 0, 0);
    sem_init(&begun, 0, 0);
    return hubs_begin_world(state);
}

#define FILE_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)

static void wait_sem(sem_t *sem)
{
    while (sem_wait(sem) != 0)
        continue;
}

/* A file that is gone when it is closed. */
static int make_file(void)
{
    char path[] = "test_hub_files.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

/* One of which the system cannot be asked without blocking. */
static int open_slow(void)
{
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* ---- What is moved --------------------------------------------------------------------------- */

enum { SIZE = 1 << 20 };
static char wanted[SIZE], got[SIZE];

static void fill(int fd)
{
    for (int i = 0; i < SIZE; i++)
        wanted[i] = (char)(i * 2654435761u >> 13);
    assert_int_equal(green_pwrite(fd, wanted, SIZE, 0), SIZE);
}

/* Has the system forget a part of it, as well as it may. */
static void forget(int fd, off_t offset, off_t size)
{
    assert_int_equal(fdatasync(fd), 0);
    assert_int_equal(posix_fadvise(fd, offset, size, POSIX_FADV_DONTNEED), 0);
}

FILE_TEST(all_that_is_there_is_moved_at_its_offset)
{
    int fd = make_file();
    fill(fd);
    forget(fd, SIZE / 2, 0);
    assert_int_equal(green_pread(fd, got, SIZE, 0), SIZE);
    assert_memory_equal(got, wanted, SIZE);
    forget(fd, 0, 0);
    assert_int_equal(green_pread(fd, got, SIZE, SIZE - 100), 100);
    assert_memory_equal(got, wanted + SIZE - 100, 100);
    assert_int_equal(green_pread(fd, got, SIZE, SIZE), 0);
    assert_int_equal(green_pread(fd, got, 0, 0), 0);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
    assert_refused(green_pread(fd, got, 1, -1), EINVAL);
    assert_int_equal(green_close(fd), 0);
}

FILE_TEST(all_that_is_there_is_moved_where_the_descriptor_is)
{
    int fd = make_file();
    fill(fd);
    forget(fd, SIZE / 3, 0);
    assert_int_equal(green_read(fd, got, SIZE / 2), SIZE / 2);
    assert_int_equal(green_read(fd, got + SIZE / 2, SIZE), SIZE / 2);
    assert_memory_equal(got, wanted, SIZE);
    assert_int_equal(green_read(fd, got, SIZE), 0);
    assert_int_equal(green_write(fd, "end", 3), 3);
    assert_int_equal(lseek(fd, 0, SEEK_END), SIZE + 3);
    assert_int_equal(lseek(fd, SIZE, SEEK_SET), SIZE);
    assert_int_equal(green_read_all(fd, got, SIZE), 3);
    assert_int_equal(errno, 0);
    assert_memory_equal(got, "end", 3);
    assert_int_equal(green_close(fd), 0);
}

FILE_TEST(many_parts_are_filled_to_the_last)
{
    enum { PARTS = 40 };
    struct iovec parts[PARTS];
    int fd = make_file();
    fill(fd);
    for (int first = 0; first < 4; first++) {
        size_t at = 0;
        for (int i = 0; i < PARTS; i++) {
            size_t size = i % 5 == 0 ? 0 : i == PARTS - 1 ? SIZE - at : SIZE / PARTS + 7;
            parts[i] = (struct iovec){ got + at, size };
            at += size;
        }
        memset(got, 0, SIZE);
        forget(fd, first * SIZE / 4, 0);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_int_equal(green_readv(fd, parts, PARTS), (ssize_t)at);
        assert_memory_equal(got, wanted, at);
        assert_ptr_equal(parts[0].iov_base, got);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_int_equal(green_writev(fd, parts, PARTS), (ssize_t)at);
    }
    assert_int_equal(green_close(fd), 0);
}

FILE_TEST(a_file_in_memory_needs_no_thread)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    fill(fd);
    assert_int_equal(green_pread(fd, got, SIZE, 0), SIZE);
    assert_memory_equal(got, wanted, SIZE);
    assert_int_equal(in_pool, 0);
    assert_int_equal(green_close(fd), 0);
}

FILE_TEST(the_end_of_a_cached_file_needs_no_thread)
{
    int fd = make_file();
    struct iovec part = { got, 8 };
    fill(fd);
    if (syscall(SYS_preadv2, fd, &part, 1ul, 0ul, 0ul, 8 /* RWF_NOWAIT */) != 8) {
        print_message("skipped: this file system cannot be asked not to block\n");
    } else {
        assert_int_equal(green_pread(fd, got, SIZE, SIZE - 100), 100);
        assert_int_equal(in_pool, 0);
    }
    assert_int_equal(green_close(fd), 0);
}

FILE_TEST(errors_are_the_systems)
{
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC), dir = open("/", O_RDONLY | O_CLOEXEC);
    assert_refused(green_write(fd, "x", 1), EBADF);
    assert_refused(green_read(dir, got, 1), EISDIR);
    assert_int_equal(green_close(fd), 0);
    assert_int_equal(green_close(dir), 0);
    assert_refused(green_read(fd, got, 1), EBADF);
}

/* ---- By a thread of the pool ----------------------------------------------------------------- */

struct job {
    int fd;
    ssize_t result;
    int error;
    char bytes[16];
};

static void *read_slow(void *arg)
{
    struct job *job = arg;
    job->result = green_pread(job->fd, job->bytes, sizeof job->bytes, 0);
    job->error = errno;
    return job;
}

FILE_TEST(other_tasks_run_while_a_thread_reads)
{
    struct job job = { .fd = open_slow() };
    held = true;
    green_task_t *task = spawn(read_slow, &job);
    turn();
    wait_sem(&begun);
    nap(1);
    assert_int_equal(hub_stat(offloads), 1);
    assert_int_equal(in_pool, 1);
    sem_post(&gate);
    finish(task);
    assert_int_equal(job.result, sizeof job.bytes);
    assert_int_equal(in_hub_thread, 0);
    assert_int_equal(green_close(job.fd), 0);
}

FILE_TEST(a_read_that_a_thread_has_begun_is_not_cancelled)
{
    struct job job = { .fd = open_slow() };
    held = true;
    green_task_t *task = spawn(read_slow, &job);
    turn();
    wait_sem(&begun);
    assert_int_equal(green_task_cancel(task), 0);
    turn();
    sem_post(&gate);
    finish(task);
    assert_int_equal(job.result, sizeof job.bytes);
    assert_int_equal(green_close(job.fd), 0);
}

FILE_TEST(a_descriptor_is_closed_when_the_thread_has_read)
{
    struct job job = { .fd = open_slow() };
    held = true;
    green_task_t *task = spawn(read_slow, &job);
    turn();
    wait_sem(&begun);
    assert_int_equal(green_close(job.fd), 0);
    assert_true(fcntl(job.fd, F_GETFD) >= 0); /* nobody else gets the number */
    assert_refused(green_close(job.fd), EBADF);
    assert_refused(green_pread(job.fd, got, 1, 0), EBADF);
    sem_post(&gate);
    finish(task);
    assert_int_equal(job.result, sizeof job.bytes);
    assert_refused(fcntl(job.fd, F_GETFD), EBADF);
}

static int fork_meanwhile(void *unused)
{
    struct job job = { .fd = open_slow() };
    held = true;
    (void)unused;
    spawn(read_slow, &job);
    turn();
    wait_sem(&begun);
    pid_t pid = fork();
    if (pid == 0) {
        held = false;
        must_be_0(green_close(job.fd)); /* no thread of the child has it */
        must(fcntl(job.fd, F_GETFD) == -1);
        job.fd = open_slow();
        must(read_slow(&job) == &job && job.result == sizeof job.bytes);
        leave_child(0);
    }
    int status = -1;
    must(green_waitpid(pid, &status, 0) == pid);
    must(status == 0);
    sem_post(&gate);
    leave_child(0);
}

FILE_TEST(in_a_forked_child_no_thread_has_a_descriptor)
{
    has_tasks_in_child();
    has_threads_in_child();
    struct child child = run_child(fork_meanwhile, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

static int read_without_threads(void *unused)
{
    struct job job = { .fd = open_slow() };
    (void)unused;
    if (filter_threads() != 0)
        leave_child(NO_FILTERS);
    read_slow(&job);
    must(job.result == sizeof job.bytes);
    must(in_hub_thread == 1 && in_pool == 0);
    leave_child(0);
}

FILE_TEST(if_no_thread_can_be_had_the_caller_reads)
{
    has_tasks_in_child();
    assert_child_held(run_child(read_without_threads, NULL));
}

/* ---- Numbers that are used again ------------------------------------------------------------- */

FILE_TEST(a_number_that_was_a_files_may_be_a_sockets)
{
    int pair[2], fd = make_file(), other = open("/dev/null", O_RDONLY);
    char byte = 0;
    fill(fd);
    assert_int_equal(green_read(fd, &byte, 1), 1);
    close(other);
    close(fd); /* behind the hub's back */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(pair[0] == fd || pair[1] == fd);
    int peer = pair[0] == fd ? pair[1] : pair[0];
    GREEN_SCOPE(limit, GREEN_MS(2), 0);
    assert_refused(green_read(fd, &byte, 1), ETIMEDOUT);
    assert_int_equal(green_scope_end(&limit), 1);
    assert_int_equal(in_pool, 0);
    assert_int_equal(write(peer, "x", 1), 1);
    assert_int_equal(green_read(fd, &byte, 1), 1);
    assert_int_equal(byte, 'x');
    green_close(pair[0]);
    green_close(pair[1]);
}

/* What is known of the number is that of a pipe, which is written to by parts. */
FILE_TEST(a_file_that_has_a_pipes_number_is_written_whole)
{
    static char much[1 << 20];
    char byte;
    int ends[2], file = memfd_create("file", MFD_CLOEXEC);
    must(file >= 0);
    must_be_0(pipe2(ends, O_CLOEXEC));
    must(green_write(ends[1], "x", 1) == 1 && green_read(ends[0], &byte, 1) == 1);
    must(dup2(file, ends[1]) == ends[1]);
    assert_int_equal(green_write(ends[1], much, sizeof much), sizeof much);
    assert_int_equal(green_write(ends[1], much, sizeof much), sizeof much);
    must_be_0(green_close(file));
    must_be_0(green_close(ends[0]));
    must_be_0(green_close(ends[1]));
}

int main(void)
{
    return run_all_tests();
}
