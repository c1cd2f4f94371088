/* SPDX-License-Identifier: MIT */
/* Commands by ssh and files by sftp, by libssh2, on a socket that is plain and blocks. */
#include "clients.h"

#include <libssh2.h>
#include <libssh2_sftp.h>

struct ssh {
    int fd;
    LIBSSH2_SESSION *session;
    LIBSSH2_SFTP *sftp;
};

/*
 * What waits for the server to agree, as libssh2_session_free() does, frees nothing if the wait
 * fails, in a cancelled task, say.  On a socket that is shut down it does not wait.
 */
static void ssh_disconnect(void *connection)
{
    struct ssh *ssh = connection;
    if (ssh->session != NULL)
        libssh2_session_disconnect(ssh->session, "goodbye");
    shutdown(ssh->fd, SHUT_RDWR);
    if (ssh->sftp != NULL)
        libssh2_sftp_shutdown(ssh->sftp);
    if (ssh->session != NULL)
        must_be_0(libssh2_session_free(ssh->session));
    close(ssh->fd);
    free(ssh);
}

static int failed(struct ssh *ssh)
{
    char *text = NULL;
    libssh2_session_last_error(ssh->session, &text, NULL, 0);
    why(text);
    return -1;
}

static void *ssh_connect(int port)
{
    const char *key = getenv("GREEN_SSHD_KEY");
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct ssh *ssh = calloc(1, sizeof *ssh);
    char public[512];
    must(ssh != NULL && key != NULL);
    snprintf(public, sizeof public, "%s.pub", key);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ssh->fd = socket(AF_INET, SOCK_STREAM, 0);
    must(ssh->fd >= 0);
    if (connect(ssh->fd, (struct sockaddr *)&address, sizeof address) != 0)
        why(strerror(errno));
    else if ((ssh->session = libssh2_session_init()) == NULL)
        why("no session");
    else if (libssh2_session_handshake(ssh->session, ssh->fd) != 0 ||
             libssh2_userauth_publickey_fromfile(ssh->session, getenv("GREEN_SSHD_USER"), public,
                                                 key, NULL) != 0)
        failed(ssh);
    else
        return ssh;
    ssh_disconnect(ssh);
    return NULL;
}

static LIBSSH2_CHANNEL *command(struct ssh *ssh, const char *text)
{
    LIBSSH2_CHANNEL *channel = libssh2_channel_open_session(ssh->session);
    if (channel != NULL && libssh2_channel_exec(channel, text) != 0) {
        libssh2_channel_free(channel);
        channel = NULL;
    }
    return channel;
}

/* What a command says, a line at most: 0 or -1. */
static int say(struct ssh *ssh, const char *text, char *said, size_t size)
{
    LIBSSH2_CHANNEL *channel = command(ssh, text);
    size_t used = 0;
    ssize_t n;
    if (channel == NULL)
        return failed(ssh);
    while (used < size - 1) { /* nothing may have been said yet, and yet it returns */
        n = libssh2_channel_read(channel, said + used, size - 1 - used);
        if (n < 0 || (n == 0 && libssh2_channel_eof(channel) == 1))
            break;
        used += (size_t)n;
    }
    said[used] = '\0';
    if (libssh2_channel_eof(channel) != 1 || used == 0) {
        failed(ssh);
        libssh2_channel_free(channel);
        return -1;
    }
    libssh2_channel_free(channel);
    return 0;
}

static int ssh_ask(void *connection, int n, int ms)
{
    struct ssh *ssh = connection;
    char text[128], said[128];
    if (ms > 0) {
        snprintf(text, sizeof text, "sleep %d.%03d && echo $((2 * %d + 1))", ms / 1000, ms % 1000, n);
        if (say(ssh, text, said, sizeof said) != 0)
            return -1;
        must(atoi(said) == 2 * n + 1);
        return 0;
    }
    /* Without a process for each: what sftp makes of a path. */
    if (ssh->sftp == NULL && (ssh->sftp = libssh2_sftp_init(ssh->session)) == NULL)
        return failed(ssh);
    snprintf(text, sizeof text, "/tmp/../%d", 2 * n + 1);
    int size = libssh2_sftp_realpath(ssh->sftp, text, said, sizeof said - 1);
    if (size < 0)
        return failed(ssh);
    said[size] = '\0';
    must(said[0] == '/' && atoi(said + 1) == 2 * n + 1);
    return 0;
}

static int ssh_move(void *connection, const char *bytes, size_t size)
{
    struct ssh *ssh = connection;
    char text[128], file[] = "/tmp/green.sftp.XXXXXX";
    int fd = mkstemp(file);
    uint64_t sum = SUM_START;
    size_t got = 0;
    ssize_t n;
    must(fd >= 0);
    close(fd);
    snprintf(text, sizeof text, "cat >%s", file);
    LIBSSH2_CHANNEL *channel = command(ssh, text);
    if (channel == NULL)
        return failed(ssh);
    for (size_t at = 0; at < size; at += (size_t)n)
        if ((n = libssh2_channel_write(channel, bytes + at, size - at)) < 0)
            return failed(ssh);
    if (libssh2_channel_send_eof(channel) != 0 || libssh2_channel_wait_eof(channel) != 0 ||
        libssh2_channel_close(channel) != 0 || libssh2_channel_wait_closed(channel) != 0)
        return failed(ssh);
    libssh2_channel_free(channel);

    snprintf(text, sizeof text, "cat %s", file);
    channel = command(ssh, text);
    char *part = malloc(65536);
    if (channel == NULL)
        return failed(ssh);
    must(part != NULL);
    for (; (n = libssh2_channel_read(channel, part, 65536)) > 0; got += (size_t)n)
        sum = sum_of(sum, part, (size_t)n);
    free(part);
    libssh2_channel_free(channel);
    unlink(file);
    if (n < 0)
        return failed(ssh);
    must(got == size && sum == sum_of(SUM_START, bytes, size));
    return 0;
}

static int ssh_limit(void *connection, int ms)
{
    struct ssh *ssh = connection;
    libssh2_session_set_timeout(ssh->session, ms);
    return 0;
}

static pid_t ssh_server(void *connection)
{
    char said[128];
    must_be_0(say(connection, "echo $PPID", said, sizeof said));
    return atoi(said);
}

static const char *ssh_version(void)
{
    return libssh2_version(0);
}

static const struct client client = {
    .name = "libssh2",
    .version = ssh_version,
    .think = 1000, /* a shell for each */
    .port = "GREEN_SSHD_PORT",
    .connect = ssh_connect,
    .ask = ssh_ask,
    .move = ssh_move,
    .limit = ssh_limit,
    .server = ssh_server,
    .disconnect = ssh_disconnect,
};

#include "clients_tests.h"
