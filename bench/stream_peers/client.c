/* Subscribers by the thousand: opens graphql-transport-ws sockets, publishes events and counts who heard each of them.
 *
 *     client PORT PUBLISH-PORT SUBSCRIBERS EVENTS SECONDS PACE TOKEN QUERY
 *
 * QUERY is JSON text; each % in it becomes the subscriber's number, so that operations can differ. An event is done when every subscriber
 * has heard it. PACE is how many are under way at a time, or with "/s" behind it how many are published a second, whoever has heard what.
 * It ends after EVENTS or SECONDS, whichever comes first. Says "ready" once all subscribers have heard a first event, waits for a line,
 * then measures: the time until the last subscriber had the event, or with "/s" until each of them had it. Prints one line of JSON.
 * One thread and epoll. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (1 << 18) /* bytes read at a time */
#define PEEK 96          /* of each frame, to see what it is */
#define EVENTS_MAX 100000
#define WARM_EVENTS 20
#define WARM_S 2
#define STALL_S 30 /* without a frame: give up */

struct peer {
    int fd;
    long heard;
    uint64_t left;          /* bytes of the frame under way */
    unsigned char head[14]; /* of the next frame */
    int head_size;
    int opcode;
    unsigned char peek[PEEK];
    int peeked;
};

static long done_by[EVENTS_MAX];
static double sent_at[EVENTS_MAX], took[EVENTS_MAX];
static long finished, subscribers;
static double *delays; /* of each delivery, where they are asked for */
static long delayed;
static uint64_t bytes;

static void fail(const char *what) {
    fprintf(stderr, "client: %s: %s\n", what, errno ? strerror(errno) : "");
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void write_all(int fd, const void *from, size_t size) {
    const char *at = from;
    while (size) {
        ssize_t n = write(fd, at, size);
        if (n < 0) fail("write");
        at += n, size -= n;
    }
}

static void say(int fd, int opcode, const char *text, size_t size) {
    unsigned char head[8] = {0x80 | opcode};
    int n = 2;
    if (size < 126) head[1] = 0x80 | size;
    else head[1] = 0x80 | 126, head[2] = size >> 8, head[3] = size & 255, n = 4;
    memset(head + n, 0, 4); /* a mask of zeros changes nothing */
    char *whole = malloc(size + 8);
    memcpy(whole, head, n + 4);
    memcpy(whole + n + 4, text, size);
    write_all(fd, whole, n + 4 + size);
    free(whole);
}

static int open_socket(int port, const char *path) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    char text[1024];
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n",
                     path, port);
    write_all(fd, text, n);
    size_t filled = 0;
    while (!filled || !memmem(text, filled, "\r\n\r\n", 4)) { /* a byte at a time: what comes after belongs to the conversation */
        if (filled == sizeof text || read(fd, text + filled, 1) != 1) fail("handshake");
        filled++;
    }
    if (memcmp(text, "HTTP/1.1 101", 12)) fail("no upgrade");
    return fd;
}

static void frame_is_whole(struct peer *p) {
    if (p->opcode == 9) say(p->fd, 10, (char *)p->peek, p->peeked);
    if (p->opcode == 8) errno = 0, fail("closed by the server");
    if (p->opcode != 1) return;
    if (!memmem(p->peek, p->peeked, "\"next\"", 6)) {
        fprintf(stderr, "%.*s\n", p->peeked, p->peek);
        errno = 0, fail("not a next message");
    }
    long event = p->heard++;
    if (delays) delays[delayed++] = now() - sent_at[event];
    if (event < EVENTS_MAX && ++done_by[event] == subscribers) took[event] = now() - sent_at[event], finished++;
}

/* Frames come in any pieces: the head is collected, the payload only counted, but for its beginning. */
static void take(struct peer *p, const unsigned char *at, size_t size) {
    bytes += size;
    while (size) {
        if (!p->left) {
            p->head[p->head_size++] = *at++, size--;
            int length = p->head_size > 1 ? p->head[1] & 127 : 0, wanted = 2 + (length == 126 ? 2 : length == 127 ? 8 : 0);
            if (p->head_size < 2 || p->head_size < wanted) continue;
            p->left = length;
            if (length >= 126) {
                p->left = 0;
                for (int i = 2; i < wanted; i++) p->left = p->left << 8 | p->head[i];
            }
            p->opcode = p->head[0] & 15, p->head_size = 0, p->peeked = 0;
            if (!p->left) frame_is_whole(p);
            continue;
        }
        size_t part = size < p->left ? size : p->left, room = PEEK - p->peeked, seen = part < room ? part : room;
        memcpy(p->peek + p->peeked, at, seen);
        p->peeked += seen, p->left -= part, at += part, size -= part;
        if (!p->left) frame_is_whole(p);
    }
}

static struct peer subscribe(int port, const char *token, const char *query, long number) {
    char text[8192];
    struct peer p = {.fd = open_socket(port, "/graphql")};
    int n = snprintf(text, sizeof text, "{\"type\":\"connection_init\",\"payload\":{\"authorization\":\"Bearer %s\"}}", token);
    if (*token) say(p.fd, 1, text, n);
    else say(p.fd, 1, "{\"type\":\"connection_init\"}", 26);
    unsigned char head[4];
    do { /* the acknowledgement */
        if (read(p.fd, head, 2) != 2) fail("acknowledgement");
        int size = head[1] & 127;
        if (size == 126) {
            if (read(p.fd, head + 2, 2) != 2) fail("acknowledgement");
            size = head[2] << 8 | head[3];
        }
        for (int got = 0; got < size;) {
            int r = read(p.fd, text + got, size - got);
            if (r <= 0) fail("acknowledgement");
            got += r;
        }
        text[size] = 0;
    } while (!strstr(text, "connection_ack"));
    n = snprintf(text, sizeof text, "{\"id\":\"%04ld\",\"type\":\"subscribe\",\"payload\":{\"query\":\"", number);
    for (const char *c = query; *c; c++) {
        if (*c == '%') n += snprintf(text + n, sizeof text - n, "%ld", number);
        else text[n++] = *c;
    }
    n += snprintf(text + n, sizeof text - n, "\"}}");
    say(p.fd, 1, text, n);
    return p;
}

static int earlier(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

static void publish(int fd, long event) {
    char data[120];
    int n = snprintf(data, sizeof data, "t=21.53;h=48.2;bat=3.71;rssi=-67;up=86400;fw=12;free=48216;n=%06ld", event);
    sent_at[event] = now();
    say(fd, 1, data, n);
}

/* What is ready now, or comes within STALL_S; a timer only ends the waiting. */
static void hear(int poll, struct peer *peers) {
    static unsigned char buffer[BUFFER];
    struct epoll_event ready[512];
    int n = epoll_wait(poll, ready, 512, STALL_S * 1000);
    if (n == 0) errno = 0, fail("nothing comes any more");
    for (int i = 0; i < n; i++) {
        struct peer *p = peers + ready[i].data.u32;
        ssize_t size = read(p->fd, buffer, sizeof buffer);
        if (size <= 0) fail("read");
        if (p != peers + subscribers) take(p, buffer, size);
    }
}

static void watch(int poll, struct peer *peers, long number) {
    struct epoll_event in = {.events = EPOLLIN, .data.u32 = number};
    epoll_ctl(poll, EPOLL_CTL_ADD, peers[number].fd, &in);
}

/* Publishes until EVENTS or SECONDS are over, and waits until all of them have been heard. */
static long at_once(int publisher, int poll, struct peer *peers, long first, long events, double seconds, long in_flight) {
    long published = first;
    double begun = now();
    for (;;) {
        int is_over = published == first + events || now() - begun > seconds;
        if (is_over && finished == published) return published - first;
        while (!is_over && published - finished < in_flight && published < first + events) publish(publisher, published), published++;
        hear(poll, peers);
    }
}

static long by_the_clock(int publisher, int poll, struct peer *peers, long first, long events, double seconds, long rate) {
    struct itimerspec each = {{0, 1000000000 / rate}, {0, 1000000000 / rate}}, never = {{0, 0}, {0, 0}};
    long published = first, last = first + (events < seconds * rate ? events : (long)(seconds * rate));
    peers[subscribers].fd = timerfd_create(CLOCK_MONOTONIC, 0);
    watch(poll, peers, subscribers);
    timerfd_settime(peers[subscribers].fd, 0, &each, NULL);
    double begun = now();
    while (finished < last) {
        while (published < last && now() - begun >= (double)(published - first) / rate) publish(publisher, published), published++;
        if (published == last) timerfd_settime(peers[subscribers].fd, 0, &never, NULL);
        hear(poll, peers);
    }
    return last - first;
}

int main(int count, char **words) {
    if (count != 9) fail("PORT PUBLISH-PORT SUBSCRIBERS EVENTS SECONDS PACE TOKEN QUERY");
    long events = atol(words[4]), pace = atol(words[6]);
    double limit = atof(words[5]);
    int is_by_the_clock = strstr(words[6], "/s") != NULL;
    subscribers = atol(words[3]);
    struct rlimit files = {8192, 8192};
    setrlimit(RLIMIT_NOFILE, &files);
    int publisher = open_socket(atoi(words[2]), "/publish"), poll = epoll_create1(0);
    struct peer *peers = calloc(subscribers + 1, sizeof *peers);
    for (long i = 0; i < subscribers; i++) {
        peers[i] = subscribe(atoi(words[1]), words[7], words[8], i);
        watch(poll, peers, i);
    }
    usleep(300000 + 2000 * subscribers); /* the protocol has no word for "you are subscribed" */
    long first = at_once(publisher, poll, peers, 0, WARM_EVENTS, WARM_S, 1);
    printf("ready\n");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    if (is_by_the_clock) delays = malloc(events * subscribers * sizeof *delays);
    uint64_t before = bytes;
    double begun = now();
    events = (is_by_the_clock ? by_the_clock : at_once)(publisher, poll, peers, first, events, limit, pace);
    double seconds = now() - begun, *times = is_by_the_clock ? delays : took + first;
    long number = is_by_the_clock ? delayed : events;
    qsort(times, number, sizeof *times, earlier);
    printf("{\"deliveries\": %ld, \"seconds\": %.6f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"frame_bytes\": %.0f}\n", events * subscribers, seconds,
           times[number / 2] * 1e3, times[number * 99 / 100] * 1e3, (double)(bytes - before) / events / subscribers);
    return 0;
}
