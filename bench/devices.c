/* Ten thousand devices in one process: the load client of `bench devices`, `bench storm` and `bench ingest`.
 *
 *   devices PORT FIRST COUNT PRODUCT SEED
 *
 * connects COUNT devices, whose ids count up from FIRST, to 127.0.0.1:PORT. All prove themselves with the one Ed25519 key whose seed is
 * SEED (64 hex digits): the server checks every signature anew, and we need to make only one key. Commands are lines on stdin, and each
 * is answered by one line of JSON:
 *
 *   connect JITTER_MS AT_ONCE     every device comes (back) after 0..JITTER_MS, at most AT_ONCE in their handshake; done when all are welcome
 *   drop                          every socket is reset, as by a power cut
 *   publish SECONDS WINDOW        every device keeps WINDOW events unacknowledged; done when the time is over and all are acknowledged
 *
 * Between commands pings are answered. A device that is turned away comes back after 0..1 s. The end of stdin ends the process.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_SIZE 2048
#define WINDOW_MAX 64
#define SAMPLES_MAX 4000000

enum step { AWAY, CONNECTING, UPGRADING, PROVING, ONLINE };

struct device {
    int fd, held;
    enum step step;
    double due, begun; /* seconds: when to connect, and when that began */
    unsigned said, acked;
    double said_at[WINDOW_MAX];
    char in[IN_SIZE];
};

static struct device *devices;
static int count, poller, opening, online;
static unsigned port, product;
static unsigned long long first;
static EVP_PKEY *key;
static double begin;
static float *samples; /* milliseconds */
static long sampled, refused, lost, acked;
static int publishing, window;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static double chance(double up_to) { return up_to * (rand() / (RAND_MAX + 1.0)); }

static void sample(double seconds) {
    if (sampled < SAMPLES_MAX) samples[sampled++] = (float)(seconds * 1000);
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile(double share) { return sampled ? samples[(long)(share * (sampled - 1))] : 0; }

static void away(struct device *d, double due) {
    if (d->step == AWAY) return;
    if (d->step == ONLINE) online--; else opening--;
    struct linger reset = {1, 0};
    setsockopt(d->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(d->fd);
    d->step = AWAY;
    d->due = due;
}

static void turned_away(struct device *d) {
    if (d->step == ONLINE) lost++; else refused++;
    away(d, now() + chance(1.0));
}

static void say(struct device *d, const char *text, int length) { /* a masked frame whose mask is zero */
    unsigned char frame[1024];
    int head = 6;
    frame[0] = 0x81;
    if (length < 126) frame[1] = 0x80 | length;
    else { frame[1] = 0x80 | 126; frame[2] = length >> 8; frame[3] = length & 255; head = 8; }
    memset(frame + head - 4, 0, 4);
    memcpy(frame + head, text, length);
    if (send(d->fd, frame, head + length, MSG_NOSIGNAL) != head + length) turned_away(d);
}

static void pong(struct device *d, const unsigned char *payload, int length) {
    unsigned char frame[256] = {0x8A, 0x80 | length, 0, 0, 0, 0};
    memcpy(frame + 6, payload, length);
    if (send(d->fd, frame, 6 + length, MSG_NOSIGNAL) != 6 + length) turned_away(d);
}

static void base64url(const unsigned char *raw, int length, char *text) {
    EVP_EncodeBlock((unsigned char *)text, raw, length);
    for (char *c = text; *c; c++) {
        if (*c == '+') *c = '-';
        else if (*c == '/') *c = '_';
        else if (*c == '=') *c = 0;
    }
}

static void hello(struct device *d, const char *challenge) {
    char nonce[128], id[32], message[256], text[600], proof[128];
    const char *at = strstr(challenge, "\"nonce\":\"");
    if (!at || sscanf(at + 9, "%127[^\"]", nonce) != 1) { turned_away(d); return; }
    snprintf(id, sizeof id, "%024llx", first + (unsigned long long)(d - devices));
    int length = snprintf(message, sizeof message, "flotilla.device.v1\n%s\n%s", nonce, id);
    unsigned char signature[64];
    size_t size = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_DigestSignInit(context, NULL, NULL, NULL, key);
    EVP_DigestSign(context, signature, &size, (unsigned char *)message, length);
    EVP_MD_CTX_free(context);
    base64url(signature, 64, proof);
    length = snprintf(text, sizeof text,
        "{\"type\":\"hello\",\"deviceId\":\"%s\",\"signature\":\"%s\",\"productId\":%u,\"firmwareVersion\":1,\"platform\":\"PHOTON\"}",
        id, proof, product);
    say(d, text, length);
}

static void publish(struct device *d) {
    while (publishing && d->step == ONLINE && d->said - d->acked < (unsigned)window) {
        char text[200];
        d->said_at[d->said % WINDOW_MAX] = now();
        int length = snprintf(text, sizeof text, "{\"type\":\"publish\",\"id\":\"%.0f-%u\",\"name\":\"temperature\",\"data\":\"21.5\"}",
                              begin * 1e3, d->said++);
        say(d, text, length);
    }
}

static void hear(struct device *d, char *text, int length) {
    char end = text[length];
    text[length] = 0;
    if (d->step == UPGRADING && strstr(text, "\"challenge\"")) {
        d->step = PROVING;
        hello(d, text);
    } else if (d->step == PROVING && strstr(text, "\"welcome\"")) {
        d->step = ONLINE;
        opening--;
        online++;
        sample(now() - d->begun);
    } else if (d->step == ONLINE && strstr(text, "\"ack\"")) {
        sample(now() - d->said_at[d->acked++ % WINDOW_MAX]);
        acked++;
        publish(d);
    } else if (d->step == ONLINE && strstr(text, "\"nack\"")) {
        d->acked++;
        refused++;
    }
    text[length] = end;
}

static void take(struct device *d) { /* frames that are whole, from d->in */
    unsigned char *at = (unsigned char *)d->in;
    int left = d->held;
    if (d->step == UPGRADING && left && !(at[0] & 0x80)) {
        char *end = memmem(d->in, left, "\r\n\r\n", 4);
        if (!end) return;
        if (memcmp(d->in, "HTTP/1.1 101", 12)) { turned_away(d); return; }
        left -= end + 4 - d->in;
        at = (unsigned char *)end + 4;
    }
    while (left >= 2 && d->step != AWAY) {
        int head = 2, length = at[1] & 127, op = at[0] & 15;
        if (length == 126) {
            if (left < 4) break;
            head = 4;
            length = at[2] << 8 | at[3];
        }
        if (left < head + length) break;
        if (op == 8) turned_away(d);
        else if (op == 9) pong(d, at + head, length);
        else if (op == 1) hear(d, (char *)at + head, length);
        at += head + length;
        left -= head + length;
    }
    memmove(d->in, at, left);
    d->held = left;
}

static void connect_one(struct device *d, double at) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    d->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (d->fd < 0) { perror("socket"); exit(1); }
    setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(d->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) { perror("connect"); exit(1); }
    struct epoll_event wanted = {.events = EPOLLOUT, .data.ptr = d};
    epoll_ctl(poller, EPOLL_CTL_ADD, d->fd, &wanted);
    d->step = CONNECTING;
    d->begun = at;
    d->held = 0;
    d->said = d->acked = 0;
    opening++;
}

static void upgrade(struct device *d) {
    char text[400];
    int length = snprintf(text, sizeof text,
        "GET /device HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: flotilla.device.v1\r\n\r\n", port);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = d};
    epoll_ctl(poller, EPOLL_CTL_MOD, d->fd, &wanted);
    d->step = UPGRADING;
    if (send(d->fd, text, length, MSG_NOSIGNAL) != length) turned_away(d);
}

static void turn(int wait_ms) { /* one round of the sockets */
    static struct epoll_event events[512];
    int found = epoll_wait(poller, events, 512, wait_ms);
    for (int i = 0; i < found; i++) {
        struct device *d = events[i].data.ptr;
        if (!d || d->step == AWAY) continue;
        if (d->step == CONNECTING) {
            if (events[i].events & (EPOLLERR | EPOLLHUP)) turned_away(d);
            else upgrade(d);
            continue;
        }
        ssize_t got = recv(d->fd, d->in + d->held, IN_SIZE - 1 - d->held, 0);
        if (got <= 0) {
            if (got == 0 || errno != EAGAIN) turned_away(d);
            continue;
        }
        d->held += got;
        take(d);
    }
}

static void connect_all(double jitter_s, int at_once) {
    double start = now(), used = cpu();
    sampled = refused = 0;
    for (int i = 0; i < count; i++) if (devices[i].step == AWAY) devices[i].due = start + chance(jitter_s);
    while (online < count) {
        double at = now();
        for (int i = 0; i < count && opening < at_once; i++)
            if (devices[i].step == AWAY && devices[i].due <= at) connect_one(&devices[i], at);
        turn(1);
    }
    double seconds = now() - start;
    qsort(samples, sampled, sizeof *samples, by_value);
    printf("{\"online\":%d,\"seconds\":%.3f,\"refused\":%ld,\"p50_ms\":%.1f,\"p99_ms\":%.1f,\"client_cpu_s\":%.2f}\n",
           online, seconds, refused, percentile(0.5), percentile(0.99), cpu() - used);
}

static void publish_all(double seconds, int in_flight) {
    double start = now(), used = cpu(), end = start + seconds;
    sampled = refused = acked = 0;
    window = in_flight < WINDOW_MAX ? in_flight : WINDOW_MAX;
    publishing = 1;
    begin = start;
    for (int i = 0; i < count; i++) publish(&devices[i]);
    while (now() < end) turn(10);
    publishing = 0;
    double took = now() - start;
    long within = acked, waiting = 1;
    for (double patience = now() + 10; waiting && now() < patience; ) {
        turn(10);
        waiting = 0;
        for (int i = 0; i < count; i++) waiting += devices[i].said - devices[i].acked;
    }
    qsort(samples, sampled, sizeof *samples, by_value);
    printf("{\"acked\":%ld,\"unanswered\":%ld,\"refused\":%ld,\"per_s\":%.0f,\"p50_ms\":%.1f,\"p99_ms\":%.1f,\"client_cpu_s\":%.2f}\n",
           acked, waiting, refused, within / took, percentile(0.5), percentile(0.99), cpu() - used);
}

static void obey(const char *line) {
    double amount;
    int number;
    if (sscanf(line, "connect %lf %d", &amount, &number) == 2) connect_all(amount / 1000, number);
    else if (sscanf(line, "publish %lf %d", &amount, &number) == 2) publish_all(amount, number);
    else if (!strncmp(line, "drop", 4)) {
        for (int i = 0; i < count; i++) away(&devices[i], 0);
        printf("{\"online\":%d,\"lost\":%ld}\n", online, lost);
        lost = 0;
    } else if (!strncmp(line, "state", 5)) printf("{\"online\":%d,\"lost\":%ld}\n", online, lost);
    else { fprintf(stderr, "what is %s", line); exit(2); }
    fflush(stdout);
}

int main(int argc, char **argv) {
    unsigned char seed[32];
    if (argc != 6 || strlen(argv[5]) != 64) { fprintf(stderr, "devices PORT FIRST COUNT PRODUCT SEED\n"); return 2; }
    port = atoi(argv[1]);
    first = strtoull(argv[2], NULL, 10);
    count = atoi(argv[3]);
    product = atoi(argv[4]);
    for (int i = 0; i < 32; i++) sscanf(argv[5] + 2 * i, "%2hhx", &seed[i]);
    key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    devices = calloc(count, sizeof *devices);
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    poller = epoll_create1(0);
    if (!key || !devices || !samples || poller < 0) { fprintf(stderr, "no memory or no Ed25519\n"); return 1; }
    struct epoll_event stdin_wanted = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &stdin_wanted);
    fcntl(0, F_SETFL, O_NONBLOCK);
    char line[200];
    int held = 0;
    for (;;) {
        turn(100);
        ssize_t got = read(0, line + held, sizeof line - 1 - held);
        if (got == 0) return 0;
        if (got < 0) continue;
        held += got;
        line[held] = 0;
        if (!strchr(line, '\n')) continue;
        held = 0;
        epoll_ctl(poller, EPOLL_CTL_DEL, 0, NULL); /* a command waiting must not make every round of this one busy */
        obey(line);
        epoll_ctl(poller, EPOLL_CTL_ADD, 0, &stdin_wanted);
    }
}
