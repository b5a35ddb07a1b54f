/* What the machine can do: a server in C that writes one finished frame to each subscriber, one write() each, and does nothing else.
 *
 * No JSON is read, no GraphQL is executed, nobody is asked who may, a full socket ends it. Prints its port. One thread and epoll. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILES 8192
#define EVENT                                                                                                                        \
    "\",\"type\":\"next\",\"payload\":{\"data\":{\"events\":{\"cursor\":\"AAECAwQFBgcAAAAAAAAAewAAAAA\",\"event\":{\"deviceId\":"             \
    "\"55ff6d04498b490123456789\",\"name\":\"telemetry/temperature\",\"data\":\"%.*s\",\"ttl\":60,\"publishedAt\":"                         \
    "\"2026-11-21T20:48:00.123Z\"}}}}}"

enum { GREETING, INIT, SUBSCRIBING, LISTENING, PUBLISHING };
static int state[FILES], listeners[FILES], listening;

static void spread(const char *data, int size) {
    char body[2048], frame[2200];
    for (int i = 0; i < listening; i++) {
        if (i == 0) snprintf(body, sizeof body, EVENT, size, data);
        int n = 4 + snprintf(frame + 4, sizeof frame - 4, "{\"id\":\"%04d%s", i, body);
        frame[0] = (char)0x81, frame[1] = 126, frame[2] = (char)((n - 4) >> 8), frame[3] = (char)(n - 4);
        if (write(listeners[i], frame, n) != n) exit(1);
    }
}

static void hear(int fd) {
    unsigned char text[1 << 16];
    ssize_t size = read(fd, text, sizeof text - 1), at = 0;
    if (size <= 0) {
        close(fd);
        return;
    }
    text[size] = 0;
    if (state[fd] == GREETING) {
        state[fd] = strstr((char *)text, "GET /publish") ? PUBLISHING : INIT;
        const char *answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        if (write(fd, answer, strlen(answer)) < 0) exit(1);
        return;
    }
    while (at < size) { /* whole frames: its only client sends nothing else */
        int length = text[at + 1] & 127, head = 6;
        if (length == 126) length = text[at + 2] << 8 | text[at + 3], head = 8;
        if (state[fd] == INIT) {
            const char *ack = "\x81\x19{\"type\":\"connection_ack\"}";
            if (write(fd, ack, strlen(ack)) < 0) exit(1);
            state[fd] = SUBSCRIBING;
        } else if (state[fd] == SUBSCRIBING) {
            listeners[listening++] = fd;
            state[fd] = LISTENING;
        } else if (state[fd] == PUBLISHING) {
            spread((char *)text + at + head, length);
        }
        at += head + length;
    }
}

int main(void) {
    struct rlimit files = {FILES, FILES};
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int door = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), one = 1;
    if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 2048) || getsockname(door, (struct sockaddr *)&at, &size)) return 1;
    printf("{\"port\": %d, \"publish\": %d}\n", ntohs(at.sin_port), ntohs(at.sin_port));
    fflush(stdout);
    struct epoll_event in = {.events = EPOLLIN, .data.fd = door}, ready[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, door, &in);
    for (;;) {
        int n = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == door) {
                fd = accept(door, NULL, NULL);
                if (fd < 0 || fd >= FILES) return 1;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                state[fd] = GREETING;
                in = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &in);
            } else {
                hear(fd);
            }
        }
    }
}
