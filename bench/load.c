/* A closed loop of HTTP requests: each connection sends, waits for the whole answer, sends again.
 *
 *     load PORT CONNECTIONS SECONDS REQUEST-FILE...
 *
 * It lasts that long, or until the first answer if that is later, but not ten times as long.
 * A file holds a raw request; several are sent in turn. Prints one line of JSON: requests, failed (not 200, or an answer with "errors"), seconds, p50_ms, p99_ms,
 * and the bytes of the last answer. One thread and epoll: it costs a tenth of what the fastest server costs. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX (1 << 20) /* bytes */
#define FILES_MAX 16
#define SAMPLES_MAX (1 << 22)

struct connection {
    int fd;
    size_t filled;
    double sent_at;
    char *answer;
};

static char *texts[FILES_MAX];
static size_t sizes[FILES_MAX], files, sent;
static double *samples;
static size_t requests, failed, last_size;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void ask(struct connection *c) {
    size_t done = 0;
    c->filled = 0;
    c->sent_at = now();
    size_t which = sent++ % files;
    while (done < sizes[which]) {
        ssize_t n = write(c->fd, texts[which] + done, sizes[which] - done);
        if (n < 0) fail("write");
        done += n;
    }
}

/* The size of the whole answer once all of it is here, else 0. */
static size_t whole(struct connection *c) {
    c->answer[c->filled] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (!end) return 0;
    size_t head = end + 4 - c->answer;
    char *length = strcasestr(c->answer, "content-length:");
    if (length && length < end) {
        size_t size = head + strtoul(length + 15, NULL, 10);
        return c->filled >= size ? size : 0;
    }
    return c->filled >= 5 && !memcmp(c->answer + c->filled - 5, "0\r\n\r\n", 5) ? c->filled : 0; /* chunked */
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void hear(struct connection *c) {
    ssize_t n = read(c->fd, c->answer + c->filled, ANSWER_MAX - 1 - c->filled);
    if (n <= 0) fail("the server closed a connection");
    c->filled += n;
    size_t size = whole(c);
    if (!size) return;
    if (memcmp(c->answer + 8, " 200", 4) || strstr(c->answer, "\"errors\"")) failed++;
    if (requests < SAMPLES_MAX) samples[requests] = now() - c->sent_at;
    requests++;
    last_size = size;
    ask(c);
}

int main(int count, char **words) {
    files = count - 4;
    if (count < 5 || files > FILES_MAX) return fprintf(stderr, "load PORT CONNECTIONS SECONDS REQUEST-FILE...\n"), 2;
    int port = atoi(words[1]), connections = atoi(words[2]);
    double seconds = atof(words[3]);
    for (size_t i = 0; i < files; i++) {
        FILE *file = fopen(words[4 + i], "rb");
        if (!file) fail(words[4 + i]);
        texts[i] = malloc(ANSWER_MAX);
        sizes[i] = fread(texts[i], 1, ANSWER_MAX, file);
    }
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    int poll = epoll_create1(0);
    struct connection *all = calloc(connections, sizeof *all);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < connections; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        all[i].answer = malloc(ANSWER_MAX);
        if (connect(all[i].fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event);
        ask(&all[i]);
    }
    double begin = now();
    struct epoll_event events[256];
    while (now() - begin < (requests ? seconds : 10 * seconds)) {
        int n = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < n; i++) hear(events[i].data.ptr);
    }
    double took = now() - begin;
    size_t kept = requests < SAMPLES_MAX ? requests : SAMPLES_MAX;
    qsort(samples, kept, sizeof *samples, by_size);
    printf("{\"requests\": %zu, \"failed\": %zu, \"seconds\": %.3f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"bytes\": %zu}\n", requests, failed,
           took, kept ? samples[kept / 2] * 1e3 : 0, kept ? samples[kept * 99 / 100] * 1e3 : 0, last_size);
    return 0;
}
