/* Load for one server on this machine: WebSockets, or HTTP requests.
 *
 * Opens sockets over HTTP/1.1 Upgrade (RFC 6455) or HTTP/2 extended CONNECT (RFC 8441),
 * plain or TLS, and then echoes, fans out or idles; every byte that comes back is
 * compared with what has to come. Or sends requests on connections that are kept, and
 * holds each response to status 200 and the size of its body. The first difference ends
 * the run with exit code 1. One thread, one epoll set. Prints one JSON object.
 *
 * Build: cc -O2 -o load load.c -lssl -lcrypto
 *
 * Theory of operation. A connection carries one socket (HTTP/1.1) or several streams
 * (HTTP/2). What is to be written is queued on the connection, which is then marked
 * dirty; dirty connections are flushed after each event. A message that HTTP/2's
 * windows hold back waits on its socket. Payloads come from a small set of variants, and
 * socket and message number choose among them, so that a reply to the wrong socket or in
 * the wrong order is noticed. CPU time is read from the servers' process clocks.
 *
 * With --get or --post a socket is a place for one request at a time, and on HTTP/2 each
 * request has a stream of its own. One resource: every place asks for it again and again.
 * Several are a page: the first is asked for, then the others, in as many places as there
 * are; pages are counted, and the next begins when one is complete. With --vary a request
 * has the fields of a browser, some of which differ each time, as does a * in the path. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hpack.h"

enum { READ_SIZE = 256 << 10, MAX_VARIANTS = 16, MAX_PROCESSES = 32 };
enum { MAX_RESOURCES = 64, MAX_PATH = 128, MAX_HEAD = 2048 };
enum { OPENING_AT_ONCE = 64, OPEN_LIMIT_S = 60, STALL_LIMIT_S = 20 };
enum { OUR_WINDOW = 16 << 20, MAX_WINDOW = 0x7fffffff, DEFAULT_WINDOW = 65535 };
enum { FRAME_DATA, FRAME_HEADERS, FRAME_RST = 3, FRAME_SETTINGS, FRAME_PING = 6,
       FRAME_GOAWAY, FRAME_WINDOW_UPDATE };                       /* RFC 9113 section 6 */
enum { OP_CONTINUATION, OP_TEXT, OP_BINARY, OP_CLOSE = 8, OP_PING, OP_PONG };

enum mode { ECHO, FANOUT, IDLE, REQUESTS };
enum phase { CONNECTING, HANDSHAKING, AWAITING_SERVER, RUNNING };

static struct {
  int h2, connections, streams, depth, port, vary;
  enum mode mode;
  size_t size;
  double seconds, warm_up;
  const char *ca, *path;
  pid_t processes[MAX_PROCESSES];
  int process_count;
} options = {.connections = 1, .streams = 1, .depth = 1, .size = 32,
             .seconds = 2, .warm_up = 0.5, .path = "/"};

struct queue { uint8_t *bytes; size_t start, end, capacity; };

struct resource {
  char path[MAX_PATH];
  int upload;                                /* POST, with a body of options.size */
  size_t size;                               /* of the response's body */
  char answer[24];                           /* that body, after an upload */
};

struct connection;

struct socket {
  struct connection *connection;
  uint32_t number, stream;
  int open, joined;
  char key[32];                              /* Sec-WebSocket-Key */
  uint64_t received, sent;                   /* messages */
  double *sent_at;                           /* a ring: one entry per message under way */
  struct queue held;                         /* what the windows hold back */
  int64_t send_window;
  uint32_t uncredited;
  uint8_t head[10];                          /* of the frame that is coming */
  unsigned head_size;
  int in_payload, opcode, final, message_opcode;
  uint64_t left;                             /* bytes of the frame's payload */
  size_t offset;                             /* bytes of the message so far */
  uint8_t control[125];
  size_t control_size;
  const struct resource *resource;           /* what is asked for, NULL: nothing */
  int answered;                              /* the head of the response has come */
  size_t body_sent;                          /* of an upload */
};

struct connection {
  int fd, dirty, wants_write;
  enum phase phase;
  SSL *tls;
  struct queue in, out;
  struct socket *sockets;
  int64_t send_window;
  uint32_t uncredited, peer_window, peer_max_frame;
  int held_sockets;
  double began;
  struct hpack_table *fields;
  uint32_t number, next_stream;
  uint64_t requests;
  size_t page_asked, page_answered;
  double page_began;
};

static struct { uint8_t *payload, *frame; } variants[MAX_VARIANTS];
static size_t variant_count, frame_size;
static const char join_text[] = "join";
static struct resource resources[MAX_RESOURCES];
static size_t resource_count;
static struct connection *connections, **dirty;
static int dirty_count, poll_set, launched, open_count, joined_count, total;
static uint64_t fan_round, fan_deliveries;
static double fan_began, opened_at, last_message_at;
static int measuring;
static uint64_t messages;

__attribute__((noreturn, format(printf, 1, 2)))
static void die(const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (char *at = text; *at; at++)           /* what a server sent may be in it */
    if (*at < ' ' || *at > '~' || *at == '"' || *at == '\\') *at = '?';
  printf("{\"error\": \"%s\"}\n", text);
  exit(1);
}

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (!memory) die("out of memory");
  return memory;
}

/* Return what a system call returned, unless that says that it failed. */
static int must(int result, const char *what) {
  if (result < 0) die("%s: %s", what, strerror(errno));
  return result;
}

/* The same for OpenSSL, for which 1 is success. */
static void must_tls(long result, const char *what) {
  if (result != 1) die("%s: %s", what, ERR_reason_error_string(ERR_peek_error()) ?: "no");
}

static double now(void) {
  struct timespec time;
  must(clock_gettime(CLOCK_MONOTONIC, &time), "clock_gettime");
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Histogram of latencies: 64 steps to each doubling, so 1.6 % exact. ---------------- */

struct histogram { uint32_t count[64][64]; uint64_t total, largest; };
static struct histogram latencies, open_latencies;

static void record(struct histogram *histogram, double seconds) {
  uint64_t ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
  int high = 63 - __builtin_clzll(ns | 1);
  histogram->count[high][high < 6 ? ns & 63 : ns >> (high - 6) & 63]++;
  histogram->total++;
  if (ns > histogram->largest) histogram->largest = ns;
}

static double percentile_us(const struct histogram *histogram, double share) {
  uint64_t wanted = (uint64_t)((double)histogram->total * share), seen = 0;
  for (int high = 0; high < 64; high++)
    for (int step = 0; step < 64; step++) {
      seen += histogram->count[high][step];
      if (seen > wanted)
        return (high < 6 ? step : (double)(64 + step) * (double)(1ull << (high - 6))) / 1e3;
    }
  return (double)histogram->largest / 1e3;
}

/* The server's processes. ----------------------------------------------------------- */

static double cpu_seconds(void) {
  double sum = 0;
  for (int i = 0; i < options.process_count; i++) {
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(options.processes[i], &clock) || clock_gettime(clock, &time))
      die("process %d has no CPU clock: has the server died?", options.processes[i]);
    sum += (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
  }
  return sum;
}

static double resident_kib(void) {
  double sum = 0;
  for (int i = 0; i < options.process_count; i++) {
    char name[64];
    long pages;
    snprintf(name, sizeof name, "/proc/%d/statm", options.processes[i]);
    FILE *file = fopen(name, "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) die("cannot read %s", name);
    fclose(file);
    sum += (double)pages * (double)sysconf(_SC_PAGESIZE) / 1024;
  }
  return sum;
}

/* Queues of bytes. ------------------------------------------------------------------ */

static size_t queued(const struct queue *queue) { return queue->end - queue->start; }

static void append(struct queue *queue, const void *bytes, size_t size) {
  if (!size) return;
  if (queue->start == queue->end) queue->start = queue->end = 0;
  if (queue->end + size > queue->capacity && queue->start) {
    memmove(queue->bytes, queue->bytes + queue->start, queued(queue));
    queue->end -= queue->start;
    queue->start = 0;
  }
  if (queue->end + size > queue->capacity) {
    queue->capacity = 2 * (queue->end + size);
    queue->bytes = realloc(queue->bytes, queue->capacity);
    if (!queue->bytes) die("out of memory");
  }
  memcpy(queue->bytes + queue->end, bytes, size);
  queue->end += size;
}

static void send_bytes(struct connection *connection, const void *bytes, size_t size) {
  append(&connection->out, bytes, size);
  if (!connection->dirty) {
    connection->dirty = 1;
    dirty[dirty_count++] = connection;
  }
}

/* Sending: frames of HTTP/2, and messages on either wire. --------------------------- */

static void put_u32(uint8_t *at, uint32_t value) {
  at[0] = value >> 24, at[1] = value >> 16, at[2] = value >> 8, at[3] = value;
}

static uint32_t get_u32(const uint8_t *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void send_frame(struct connection *connection, int type, int flags,
                       uint32_t stream, const void *payload, size_t size) {
  uint8_t head[9] = {size >> 16, size >> 8, size, type, flags};
  put_u32(head + 5, stream);
  send_bytes(connection, head, sizeof head);
  send_bytes(connection, payload, size);
}

static void send_credit(struct connection *connection, uint32_t stream, uint32_t size) {
  uint8_t payload[4];
  put_u32(payload, size);
  send_frame(connection, FRAME_WINDOW_UPDATE, 0, stream, payload, sizeof payload);
}

/* Send what both windows allow, the last frame with `flags`; return how many bytes. */
static size_t send_data(struct socket *socket, const uint8_t *bytes, size_t size,
                        int flags) {
  struct connection *connection = socket->connection;
  size_t done = 0;
  while (done < size) {
    int64_t part = (int64_t)(size - done);
    if (part > connection->peer_max_frame) part = connection->peer_max_frame;
    if (part > socket->send_window) part = socket->send_window;
    if (part > connection->send_window) part = connection->send_window;
    if (part <= 0) break;
    int last = done + (size_t)part == size;
    send_frame(connection, FRAME_DATA, last ? flags : 0, socket->stream, bytes + done,
               (size_t)part);
    socket->send_window -= part;
    connection->send_window -= part;
    done += (size_t)part;
  }
  return done;
}

static void send_held(struct socket *socket) {
  struct queue *held = &socket->held;
  if (!queued(held)) return;
  held->start += send_data(socket, held->bytes + held->start, queued(held), 0);
  if (!queued(held)) socket->connection->held_sockets--;
}

static void send_tunnel(struct socket *socket, const uint8_t *bytes, size_t size) {
  if (!options.h2) {
    send_bytes(socket->connection, bytes, size);
    return;
  }
  size_t done = queued(&socket->held) ? 0 : send_data(socket, bytes, size, 0);
  if (done == size) return;
  if (!queued(&socket->held)) socket->connection->held_sockets++;
  append(&socket->held, bytes + done, size - done);
}

static size_t encode(uint8_t *out, int opcode, const uint8_t *payload, size_t size) {
  size_t at = 0;
  uint8_t mask[4];
  if (RAND_bytes(mask, sizeof mask) != 1) die("no random bytes");
  out[at++] = 0x80 | opcode;
  if (size < 126) {
    out[at++] = 0x80 | size;
  } else if (size < 65536) {
    out[at++] = 0x80 | 126, out[at++] = size >> 8, out[at++] = size;
  } else {
    out[at++] = 0x80 | 127;
    for (int shift = 56; shift >= 0; shift -= 8) out[at++] = (uint64_t)size >> shift;
  }
  memcpy(out + at, mask, sizeof mask);
  at += sizeof mask;
  for (size_t i = 0; i < size; i++) out[at++] = payload[i] ^ mask[i & 3];
  return at;
}

static void make_variants(void) {
  uint64_t state = 0x9e3779b97f4a7c15;
  variant_count = options.size > 65536 ? 4 : MAX_VARIANTS;
  for (size_t v = 0; v < variant_count; v++) {
    variants[v].payload = allocate(options.size + 1, 1);
    variants[v].frame = allocate(options.size + 14, 1);
    for (size_t i = 0; i < options.size; i++) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      variants[v].payload[i] = state >> 32;
    }
    frame_size = encode(variants[v].frame, OP_BINARY, variants[v].payload, options.size);
  }
}

static void send_message(struct socket *socket) {
  size_t variant = (socket->number + socket->sent) % variant_count;
  socket->sent_at[socket->sent++ % (uint64_t)options.depth] = now();
  send_tunnel(socket, variants[variant].frame, frame_size);
}

static void begin_fan_round(void) {
  struct connection *connection =
      &connections[fan_round % (uint64_t)total / (uint64_t)options.streams];
  struct socket *socket = &connection->sockets[fan_round % (uint64_t)options.streams];
  fan_deliveries = 0;
  fan_began = now();
  send_tunnel(socket, variants[fan_round % variant_count].frame, frame_size);
}

/* Receiving: WebSocket frames. ------------------------------------------------------- */

static void count_one(double time, double latency) {
  last_message_at = time;
  if (!measuring) return;
  messages++;
  record(&latencies, latency);
}

static void socket_opened(struct socket *socket) {
  double time = now();
  socket->open = 1;
  record(&open_latencies, time - socket->connection->began);
  if (++open_count == total) opened_at = last_message_at = time;
  if (options.mode == ECHO) {
    for (int i = 0; i < options.depth; i++) send_message(socket);
  } else if (options.mode == FANOUT) {
    uint8_t frame[32];
    size_t size = encode(frame, OP_TEXT, (const uint8_t *)join_text, strlen(join_text));
    send_tunnel(socket, frame, size);
  }
}

static void message_received(struct socket *socket) {
  double time = now(), latency;
  if (options.mode == FANOUT) {
    if (!socket->joined) {
      last_message_at = time;
      socket->joined = 1;
      if (++joined_count == total) begin_fan_round();
      return;
    }
    latency = time - fan_began;
    socket->received++;
    if (++fan_deliveries == (uint64_t)total) {
      fan_round++;
      begin_fan_round();
    }
  } else {
    latency = time - socket->sent_at[socket->received++ % (uint64_t)options.depth];
    send_message(socket);
  }
  count_one(time, latency);
}

static void check_payload(struct socket *socket, const uint8_t *bytes, size_t size) {
  const uint8_t *expected;
  size_t whole = options.size;
  int opcode = OP_BINARY;
  if (options.mode == FANOUT && !socket->joined) {
    expected = (const uint8_t *)join_text;
    whole = strlen(join_text);
    opcode = OP_TEXT;
  } else if (options.mode == FANOUT) {
    if (socket->received != fan_round) die("a message came twice");
    expected = variants[fan_round % variant_count].payload;
  } else {
    if (socket->received == socket->sent) die("more replies than messages");
    expected = variants[(socket->number + socket->received) % variant_count].payload;
  }
  if (socket->message_opcode != opcode) die("a reply has another opcode");
  if (socket->offset + size > whole) die("a reply is longer than the message");
  if (memcmp(expected + socket->offset, bytes, size)) die("a reply has other bytes");
  socket->offset += size;
  if (socket->left || !socket->final) return;
  if (socket->offset != whole) die("a reply is shorter than the message");
  socket->offset = 0;
  socket->message_opcode = 0;
  message_received(socket);
}

static void frame_begins(struct socket *socket) {
  const uint8_t *head = socket->head;
  socket->opcode = head[0] & 0x0f;
  socket->final = head[0] >> 7;
  socket->in_payload = 1;
  socket->head_size = 0;
  if (head[0] & 0x70) die("a reserved bit is set");
  if (socket->opcode >= OP_CLOSE) {
    if (socket->opcode == OP_CLOSE) die("the server closed a WebSocket");
    if (socket->left > 125 || !socket->final) die("a control frame is malformed");
    socket->control_size = 0;
    return;
  }
  if ((socket->opcode == OP_CONTINUATION) != (socket->message_opcode != 0))
    die("a message is fragmented wrongly");
  if (socket->opcode != OP_CONTINUATION) socket->message_opcode = socket->opcode;
}

static void control_received(struct socket *socket, const uint8_t *bytes, size_t size) {
  memcpy(socket->control + socket->control_size, bytes, size);
  socket->control_size += size;
  if (socket->left || socket->opcode != OP_PING) return;
  uint8_t frame[140];
  send_tunnel(socket, frame,
              encode(frame, OP_PONG, socket->control, socket->control_size));
}

/* Take one byte of a frame's head; return whether it was the last. */
static int head_byte(struct socket *socket, uint8_t byte) {
  uint8_t *head = socket->head;
  head[socket->head_size++] = byte;
  if (socket->head_size < 2) return 0;
  if (head[1] & 0x80) die("the server masked a frame");
  unsigned wanted = head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10;
  if (socket->head_size < wanted) return 0;
  socket->left = wanted == 2 ? head[1] : 0;
  for (unsigned i = 2; i < wanted; i++) socket->left = socket->left << 8 | head[i];
  return 1;
}

static void tunnel_received(struct socket *socket, const uint8_t *bytes, size_t size) {
  for (;;) {
    if (!socket->in_payload) {
      if (!size) return;
      size--;
      if (!head_byte(socket, *bytes++)) continue;
      frame_begins(socket);
    }
    if (!size && socket->left) return;
    size_t part = socket->left < size ? (size_t)socket->left : size;
    socket->left -= part;
    if (!socket->left) socket->in_payload = 0;
    if (socket->opcode >= OP_CLOSE) control_received(socket, bytes, part);
    else check_payload(socket, bytes, part);
    bytes += part;
    size -= part;
  }
}

/* Opening: RFC 6455 section 4 and RFC 8441 section 5. -------------------------------- */

static const char *scheme(void) { return options.ca ? "https" : "http"; }

static void open_h1(struct socket *socket) {
  uint8_t random[16];
  char request[512];
  if (RAND_bytes(random, sizeof random) != 1) die("no random bytes");
  EVP_EncodeBlock((unsigned char *)socket->key, random, sizeof random);
  int size = snprintf(request, sizeof request,
                      "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: %s\r\nOrigin: https://localhost\r\n\r\n",
                      options.path, options.port, socket->key);
  send_bytes(socket->connection, request, (size_t)size);
}

/* Return the size of the response head, 0 while it is incomplete. */
static size_t upgraded(struct socket *socket, const char *bytes, size_t size) {
  const char *end = memmem(bytes, size, "\r\n\r\n", 4);
  if (!end) return 0;
  char *head = strndup(bytes, (size_t)(end - bytes) + 2), joined[80], line[96];
  unsigned char digest[SHA_DIGEST_LENGTH], accept[32];
  if (!head || strncmp(head, "HTTP/1.1 101 ", 13)) die("the server refused to upgrade");
  snprintf(joined, sizeof joined, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", socket->key);
  SHA1((const unsigned char *)joined, strlen(joined), digest);
  EVP_EncodeBlock(accept, digest, sizeof digest);
  snprintf(line, sizeof line, "\r\nsec-websocket-accept: %s\r\n", accept);
  if (!strcasestr(head, line)) die("Sec-WebSocket-Accept is wrong");
  free(head);
  return (size_t)(end - bytes) + 4;
}

static void open_h2(struct connection *connection) {
  char authority[32];
  uint8_t block[512];
  size_t size = 0;
  struct hpack_table *fields = connection->fields;
  const struct { const char *name, *value; } request[] = {
      {":method", "CONNECT"},         {":protocol", "websocket"},
      {":scheme", scheme()},          {":path", options.path},
      {":authority", authority},      {"sec-websocket-version", "13"},
      {"origin", "https://localhost"}};
  snprintf(authority, sizeof authority, "localhost:%d", options.port);
  for (size_t i = 0; i < sizeof request / sizeof *request; i++)
    size += hpack_field(fields, block + size, request[i].name, request[i].value,
                        HPACK_LITERAL, 0);
  for (int i = 0; i < options.streams; i++)
    send_frame(connection, FRAME_HEADERS, 4, connection->sockets[i].stream, block, size);
}

/* Requests: RFC 9112 and RFC 9113 section 8. ----------------------------------------- */

enum { MAX_FIELDS = 14 };

struct fields { struct { char name[24], value[160]; } at[MAX_FIELDS]; size_t count; };

__attribute__((format(printf, 3, 4)))
static void add(struct fields *fields, const char *name, const char *format, ...) {
  if (fields->count == MAX_FIELDS) die("too many fields");
  size_t room = sizeof fields->at->value;
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(fields->at[fields->count].value, room, format, arguments);
  va_end(arguments);
  if (size < 0 || (size_t)size >= room) die("a field is too long");
  snprintf(fields->at[fields->count++].name, sizeof fields->at->name, "%s", name);
}

/* What a browser says, some of it new each time. Several cookies are one field over
 * HTTP/1.1, and may be several over HTTP/2 (RFC 9113 section 8.2.3). */
static void add_varied(struct fields *fields, const struct connection *connection,
                       int crumbs) {
  uint64_t mark = (connection->requests + 1) * 0x9e3779b97f4a7c15 + connection->number;
  unsigned long seen = (unsigned long)connection->requests;
  unsigned session = (connection->number + 1) * 2654435761u;
  add(fields, "user-agent",
      "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0");
  add(fields, "accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
  add(fields, "accept-language", "en-GB,en;q=0.7,de;q=0.3");
  add(fields, "accept-encoding", "gzip, deflate, br, zstd");
  add(fields, "x-request-id", "%016llx", (unsigned long long)mark);
  if (crumbs) {
    add(fields, "cookie", "session=%08x%08x", session, ~session);
    add(fields, "cookie", "seen=%lu", seen);
  } else {
    add(fields, "cookie", "session=%08x%08x; seen=%lu", session, ~session, seen);
  }
}

static void collect(struct fields *fields, const struct socket *socket, int crumbs) {
  const struct connection *connection = socket->connection;
  fields->count = 0;
  if (options.vary) add_varied(fields, connection, crumbs);
  else add(fields, "user-agent", "load");
  if (!socket->resource->upload) return;
  add(fields, "content-type", "application/octet-stream");
  add(fields, "content-length", "%zu", options.size);
}

static void make_path(const struct socket *socket, char *out, size_t room) {
  const char *path = socket->resource->path, *star = strchr(path, '*');
  unsigned long count = (unsigned long)socket->connection->requests;
  int size;
  if (star)
    size = snprintf(out, room, "%.*s%lu-%u%s", (int)(star - path), path, count,
                    socket->connection->number, star + 1);
  else size = snprintf(out, room, "%s", path);
  if (size < 0 || (size_t)size >= room) die("a path is too long");
}

/* What clients do with a field, by what has been seen of them. */
enum client { BROWSER, LIBRARY, SIMPLE };

static enum hpack_way way_of(enum client client, const char *name) {
  if (client == SIMPLE) return HPACK_LITERAL;
  /* browsers, curl and h2load keep paths out of the table; Go and Python do not */
  return client == BROWSER && !strcmp(name, ":path") ? HPACK_LITERAL : HPACK_INDEXED;
}

static void request_h2(struct socket *socket, const char *path) {
  struct connection *connection = socket->connection;
  enum client client = options.vary ? connection->number % 3 : BROWSER;
  int huffman = client != SIMPLE, upload = socket->resource->upload;
  uint8_t block[MAX_HEAD];
  struct fields fields, pseudo = {.count = 0};
  size_t size = 0;
  add(&pseudo, ":method", "%s", upload ? "POST" : "GET");
  add(&pseudo, ":authority", "localhost:%d", options.port);
  add(&pseudo, ":scheme", "%s", scheme());
  add(&pseudo, ":path", "%s", path);
  collect(&fields, socket, client == BROWSER);
  const struct fields *parts[] = {&pseudo, &fields};
  for (int part = 0; part < 2; part++)
    for (size_t i = 0; i < parts[part]->count; i++) {
      const char *name = parts[part]->at[i].name, *value = parts[part]->at[i].value;
      if (size + strlen(name) + strlen(value) + 24 > sizeof block) die("a long head");
      size += hpack_field(connection->fields, block + size, name, value,
                          way_of(client, name), huffman);
    }
  if (connection->next_stream > MAX_WINDOW) die("no stream is left");
  socket->stream = connection->next_stream;
  connection->next_stream += 2;
  socket->send_window = connection->peer_window;
  socket->uncredited = 0;
  send_frame(connection, FRAME_HEADERS, upload ? 4 : 5, socket->stream, block, size);
}

static void request_h1(struct socket *socket, const char *path) {
  char head[MAX_HEAD];
  struct fields fields;
  int size = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nhost: localhost:%d\r\n",
                      socket->resource->upload ? "POST" : "GET", path, options.port);
  collect(&fields, socket, 0);
  for (size_t i = 0; i < fields.count && size > 0 && (size_t)size < sizeof head; i++) {
    int more = snprintf(head + size, sizeof head - (size_t)size, "%s: %s\r\n",
                        fields.at[i].name, fields.at[i].value);
    size = more < 0 ? more : size + more;
  }
  if (size < 0 || (size_t)size + 2 > sizeof head) die("a long head");
  memcpy(head + size, "\r\n", 2);
  send_bytes(socket->connection, head, (size_t)size + 2);
}

/* Send of an upload's body what the windows allow; end it with the last byte. */
static void send_body(struct socket *socket) {
  const struct resource *resource = socket->resource;
  if (!resource || !resource->upload || socket->body_sent == options.size) return;
  const uint8_t *rest = variants[0].payload + socket->body_sent;
  size_t size = options.size - socket->body_sent;
  if (!options.h2) {
    send_bytes(socket->connection, rest, size);
    socket->body_sent = options.size;
    return;
  }
  socket->body_sent += send_data(socket, rest, size, 1);
  if (socket->body_sent == options.size) socket->connection->held_sockets--;
}

static void ask(struct socket *socket, const struct resource *resource) {
  char path[MAX_PATH + 40];
  socket->resource = resource;
  socket->answered = 0;
  socket->offset = socket->body_sent = 0;
  socket->sent_at[0] = now();
  make_path(socket, path, sizeof path);
  if (options.h2) request_h2(socket, path);
  else request_h1(socket, path);
  socket->connection->requests++;
  if (!resource->upload) return;
  if (options.h2) socket->connection->held_sockets++;
  send_body(socket);
}

static void page_begins(struct connection *connection) {
  connection->page_asked = 1;
  connection->page_answered = 0;
  connection->page_began = now();
  ask(&connection->sockets[0], &resources[0]);
}

static void ask_for_more(struct socket *socket) {
  struct connection *connection = socket->connection;
  if (connection->page_asked < resource_count)
    ask(socket, &resources[connection->page_asked++]);
}

static void begin_requests(struct connection *connection) {
  for (int i = 0; i < options.streams; i++) socket_opened(&connection->sockets[i]);
  if (resource_count > 1) page_begins(connection);
  else for (int i = 0; i < options.streams; i++) ask(&connection->sockets[i], resources);
}

static void head_answered(struct socket *socket) {
  if (!socket->resource) die("a response without a request");
  if (socket->answered) die("a second response, or trailers");
  socket->answered = 1;
}

static void body_received(struct socket *socket, const uint8_t *bytes, size_t size) {
  const struct resource *resource = socket->resource;
  if (!resource || !socket->answered) die("a body without a head");
  if (size > resource->size - socket->offset) die("the body is too long");
  if (resource->upload && memcmp(resource->answer + socket->offset, bytes, size))
    die("the server counted other bytes than were sent");
  socket->offset += size;
}

static void response_ended(struct socket *socket) {
  struct connection *connection = socket->connection;
  const struct resource *resource = socket->resource;
  double time = now();
  if (!resource || !socket->answered) die("an end without a response");
  if (socket->offset != resource->size) die("the body is too short");
  if (resource->upload && socket->body_sent != options.size)
    die("the answer ended before the upload");
  socket->resource = NULL;
  if (resource_count == 1) {
    count_one(time, time - socket->sent_at[0]);
    ask(socket, resource);
  } else if (++connection->page_answered == resource_count) {
    count_one(time, time - connection->page_began);
    page_begins(connection);
  } else if (connection->page_answered == 1) {
    for (int i = 0; i < options.streams; i++) ask_for_more(&connection->sockets[i]);
  } else {
    ask_for_more(socket);
  }
}

/* Check the head of a response over HTTP/1.1; return its size, 0 while incomplete. */
static size_t head_h1(struct socket *socket, const char *bytes, size_t size) {
  const char *end = memmem(bytes, size, "\r\n\r\n", 4);
  if (!end) return 0;
  char *head = strndup(bytes, (size_t)(end - bytes) + 2), *rest = NULL;
  if (!head) die("out of memory");
  if (strncmp(head, "HTTP/1.1 200", 12)) die("not answered with 200 but %.12s", head);
  if (strcasestr(head, "\r\nconnection: close\r\n")) die("the server wants to close");
  const char *length = strcasestr(head, "\r\ncontent-length:");
  if (!length) die("a response has no Content-Length");
  unsigned long long value = strtoull(length + 17, &rest, 10);
  if (!rest || *rest != '\r') die("Content-Length is malformed");
  free(head);
  head_answered(socket);
  if (value != socket->resource->size) die("the body has another size: %llu", value);
  return (size_t)(end - bytes) + 4;
}

static size_t responses_h1(struct socket *socket, const uint8_t *bytes, size_t size) {
  size_t used = 0;
  if (!socket->answered) used = head_h1(socket, (const char *)bytes, size);
  if (!socket->answered) return 0;
  size_t part = socket->resource->size - socket->offset;
  if (part > size - used) part = size - used;
  body_received(socket, bytes + used, part);
  used += part;
  if (socket->offset < socket->resource->size) return used;
  if (used < size) die("more bytes than the response has");
  response_ended(socket);
  return used;
}

static void transport_ready(struct connection *connection) {
  connection->phase = options.h2 ? AWAITING_SERVER : RUNNING;
  if (!options.h2) {
    if (options.mode == REQUESTS) begin_requests(connection);
    else open_h1(&connection->sockets[0]);
    return;
  }
  uint8_t settings[12] = {0, 2, 0, 0, 0, 0, 0, 4}; /* no push; a window for each stream */
  put_u32(settings + 8, OUR_WINDOW);
  send_bytes(connection, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
  send_frame(connection, FRAME_SETTINGS, 0, 0, settings, sizeof settings);
  send_credit(connection, 0, MAX_WINDOW - DEFAULT_WINDOW);
}

/* Receiving: frames of HTTP/2. ------------------------------------------------------- */

/* Return the socket of a stream, NULL if its request is over. */
static struct socket *socket_of(struct connection *connection, uint32_t stream) {
  if (!(stream & 1) || stream >= connection->next_stream) die("stream %u?", stream);
  if (options.mode != REQUESTS) return &connection->sockets[stream / 2];
  for (int i = 0; i < options.streams; i++) {
    struct socket *socket = &connection->sockets[i];
    if (socket->stream == stream && socket->resource) return socket;
  }
  return NULL;
}

static struct socket *open_socket_of(struct connection *connection, uint32_t stream) {
  struct socket *socket = socket_of(connection, stream);
  if (!socket) die("a frame for stream %u, which is over", stream);
  return socket;
}

/* Take the padding and the priority off a frame's payload (RFC 9113 section 6.2). */
static void strip(const uint8_t **payload, size_t *size, int type, int flags) {
  size_t padding = 0;
  if (flags & 8) {
    if (*size < 1) die("a padded frame is empty");
    padding = *(*payload)++;
    --*size;
  }
  if (type == FRAME_HEADERS && flags & 0x20) padding += 5;
  if (padding > *size) die("a frame has more padding than payload");
  if (type == FRAME_HEADERS && flags & 0x20) *payload += 5;
  *size -= padding;
}

static void data_received(struct connection *connection, struct socket *socket,
                          uint32_t frame_payload, const uint8_t *bytes, size_t size) {
  connection->uncredited += frame_payload;
  socket->uncredited += frame_payload;
  if (connection->uncredited > MAX_WINDOW / 4) {
    send_credit(connection, 0, connection->uncredited);
    connection->uncredited = 0;
  }
  if (socket->uncredited > OUR_WINDOW / 4) {
    send_credit(connection, socket->stream, socket->uncredited);
    socket->uncredited = 0;
  }
  if (options.mode == REQUESTS) body_received(socket, bytes, size);
  else tunnel_received(socket, bytes, size);
}

/* Return the size of the table size updates before the fields (RFC 7541 section 6.3). */
static size_t table_updates(const uint8_t *block, size_t size) {
  size_t at = 0;
  while (at < size && (block[at] & 0xe0) == 0x20) {
    int longer = (block[at++] & 0x1f) == 0x1f;
    while (longer && at < size) longer = block[at++] & 0x80;
  }
  return at;
}

/* Check that the response is a 200, in any encoding without a dynamic table. */
static void response_received(struct socket *socket, const uint8_t *block, size_t size) {
  size_t skipped = table_updates(block, size);
  block += skipped, size -= skipped;
  int indexed = size >= 1 && block[0] == 0x88;
  int raw = size >= 5 && (block[0] & 0x0f) == 8 && !memcmp(block + 1, "\x03" "200", 4);
  int huffman =
      size >= 4 && (block[0] & 0x0f) == 8 && !memcmp(block + 1, "\x82\x10\x01", 3);
  if (!indexed && !raw && !huffman) die("not answered with 200");
  if (options.mode == REQUESTS) {
    head_answered(socket);
    return;
  }
  if (socket->open) die("a second response, or trailers");
  socket_opened(socket);
}

static void send_rest(struct socket *socket) {
  if (options.mode == REQUESTS) send_body(socket);
  else send_held(socket);
}

/* Send what waited for the connection's window, or for larger windows of all streams. */
static void send_all_rest(struct connection *connection) {
  for (int i = 0; i < options.streams && connection->held_sockets; i++)
    send_rest(&connection->sockets[i]);
}

static void settings_received(struct connection *connection, const uint8_t *payload,
                              size_t size) {
  int extended = 0;
  for (size_t at = 0; at + 6 <= size; at += 6) {
    uint32_t value = get_u32(payload + at + 2);
    switch (payload[at] << 8 | payload[at + 1]) {
      case 1: hpack_limit(connection->fields, value); break; /* HEADER_TABLE_SIZE */
      case 3:                                /* MAX_CONCURRENT_STREAMS */
        if (value < (uint32_t)options.streams) die("only %u streams allowed", value);
        break;
      case 4:                                /* INITIAL_WINDOW_SIZE */
        for (int i = 0; i < options.streams; i++)
          connection->sockets[i].send_window += (int64_t)value - connection->peer_window;
        connection->peer_window = value;
        break;
      case 5: connection->peer_max_frame = value; break;
      case 8: extended = value == 1; break;  /* ENABLE_CONNECT_PROTOCOL */
    }
  }
  send_frame(connection, FRAME_SETTINGS, 1, 0, NULL, 0);
  if (connection->phase != AWAITING_SERVER) {
    send_all_rest(connection);
    return;
  }
  connection->phase = RUNNING;
  if (options.mode == REQUESTS) {
    begin_requests(connection);
    return;
  }
  if (!extended) die("no SETTINGS_ENABLE_CONNECT_PROTOCOL");
  open_h2(connection);
}

static void credit_received(struct connection *connection, uint32_t stream,
                            uint32_t credit) {
  if (stream) {
    struct socket *socket = socket_of(connection, stream);
    if (!socket) return;                     /* RFC 9113 section 5.1: closed */
    socket->send_window += credit;
    send_rest(socket);
    return;
  }
  connection->send_window += credit;
  send_all_rest(connection);
}

static void frame_received(struct connection *connection, const uint8_t *head,
                           const uint8_t *payload, uint32_t whole) {
  int type = head[3], flags = head[4];
  uint32_t stream = get_u32(head + 5) & 0x7fffffff;
  size_t size = whole;
  switch (type) {
    case FRAME_DATA:
    case FRAME_HEADERS:
      strip(&payload, &size, type, flags);
      if (type == FRAME_HEADERS && !(flags & 4)) die("the response head is split");
      struct socket *socket = open_socket_of(connection, stream);
      if (type == FRAME_DATA) data_received(connection, socket, whole, payload, size);
      else response_received(socket, payload, size);
      if (!(flags & 1)) break;
      if (options.mode != REQUESTS) die("the server ended a stream");
      response_ended(socket);
      break;
    case FRAME_RST: die("the server reset a stream: %u", whole < 4 ? 0 : get_u32(payload));
    case FRAME_GOAWAY: die("GOAWAY: %u", whole < 8 ? 0 : get_u32(payload + 4));
    case FRAME_SETTINGS:
      if (!(flags & 1)) settings_received(connection, payload, size);
      break;
    case FRAME_PING:
      if (!(flags & 1)) send_frame(connection, FRAME_PING, 1, 0, payload, size);
      break;
    case FRAME_WINDOW_UPDATE:
      if (whole != 4) die("a WINDOW_UPDATE of %u bytes", whole);
      credit_received(connection, stream, get_u32(payload) & 0x7fffffff);
      break;
  }
}

static size_t frames_received(struct connection *connection, const uint8_t *bytes,
                              size_t size) {
  size_t used = 0;
  while (size - used >= 9) {
    const uint8_t *head = bytes + used;
    uint32_t whole = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
    if (size - used < 9 + (size_t)whole) break;
    used += 9 + (size_t)whole;
    frame_received(connection, head, head + 9, whole);
  }
  return used;
}

/* Return how many of the bytes have been dealt with. */
static size_t consume(struct connection *connection, const uint8_t *bytes, size_t size) {
  if (options.h2) return frames_received(connection, bytes, size);
  struct socket *socket = &connection->sockets[0];
  size_t head = 0;
  if (options.mode == REQUESTS) return responses_h1(socket, bytes, size);
  if (!socket->open) {
    head = upgraded(socket, (const char *)bytes, size);
    if (!head) return 0;
    socket_opened(socket);
  }
  tunnel_received(socket, bytes + head, size - head);
  return size;
}

static void bytes_received(struct connection *connection, const uint8_t *bytes,
                           size_t size) {
  struct queue *in = &connection->in;
  if (!queued(in)) {
    size_t used = consume(connection, bytes, size);
    append(in, bytes + used, size - used);
  } else {
    append(in, bytes, size);
    in->start += consume(connection, in->bytes + in->start, queued(in));
  }
}

/* Input and output. ------------------------------------------------------------------ */

static void await_events(struct connection *connection, int write) {
  if (write == connection->wants_write) return;
  connection->wants_write = write;
  struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0),
                              .data.ptr = connection};
  must(epoll_ctl(poll_set, EPOLL_CTL_MOD, connection->fd, &event), "epoll_ctl");
}

/* Return what SSL wants to wait for; end the run where it is an error. */
static int tls_wait(struct connection *connection, int result, const char *doing) {
  int error = SSL_get_error(connection->tls, result);
  if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
    die("TLS %s failed: %s", doing, ERR_reason_error_string(ERR_peek_error()) ?: "ended");
  return error;
}

static void flush(struct connection *connection) {
  struct queue *out = &connection->out;
  if (connection->phase < AWAITING_SERVER) return;
  while (queued(out)) {
    const uint8_t *bytes = out->bytes + out->start;
    ssize_t done;
    if (connection->tls) {
      size_t size = queued(out) < 1 << 20 ? queued(out) : 1 << 20;
      done = SSL_write(connection->tls, bytes, (int)size);
      if (done <= 0) {
        tls_wait(connection, (int)done, "write");
        break;
      }
    } else {
      done = write(connection->fd, bytes, queued(out));
      if (done < 0 && errno != EAGAIN) die("write: %s", strerror(errno));
      if (done < 0) break;
    }
    out->start += (size_t)done;
  }
  await_events(connection, queued(out) != 0);
}

static void flush_dirty(void) {
  for (int i = 0; i < dirty_count; i++) {
    dirty[i]->dirty = 0;
    flush(dirty[i]);
  }
  dirty_count = 0;
}

static void receive(struct connection *connection) {
  static uint8_t bytes[READ_SIZE];
  for (int round = 0;
       round < 8 || (connection->tls && SSL_has_pending(connection->tls)); round++) {
    ssize_t size;
    if (connection->tls) {
      size = SSL_read(connection->tls, bytes, sizeof bytes);
      if (size <= 0) {
        tls_wait(connection, (int)size, "read");
        return;
      }
    } else {
      size = read(connection->fd, bytes, sizeof bytes);
      if (size < 0 && errno == EAGAIN) return;
      if (size < 0) die("read: %s", strerror(errno));
      if (size == 0) die("the server closed a connection");
    }
    bytes_received(connection, bytes, (size_t)size);
    if (!connection->tls && (size_t)size < sizeof bytes) return;
  }
}

static int handshaken(struct connection *connection) {
  const unsigned char *protocol;
  unsigned size;
  int result = SSL_connect(connection->tls);
  if (result != 1) {
    int wait = tls_wait(connection, result, "handshake");
    await_events(connection, wait == SSL_ERROR_WANT_WRITE);
    return 0;
  }
  SSL_get0_alpn_selected(connection->tls, &protocol, &size);
  if (options.h2 && (size != 2 || memcmp(protocol, "h2", 2))) die("no h2 by ALPN");
  return 1;
}

static void on_event(struct connection *connection, uint32_t events) {
  if (connection->phase == CONNECTING) {
    int error = 0;
    socklen_t size = sizeof error;
    must(getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size), "getsockopt");
    if (error) die("connect: %s", strerror(error));
    connection->phase = HANDSHAKING;
    await_events(connection, 0);
  }
  if (connection->phase == HANDSHAKING) {
    if (connection->tls && !handshaken(connection)) return;
    transport_ready(connection);
  }
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(connection);
  if (events & EPOLLOUT) flush(connection);
  flush_dirty();
}

static void launch(SSL_CTX *tls) {
  struct connection *connection = &connections[launched];
  connection->began = now();
  connection->sockets = allocate((size_t)options.streams, sizeof(struct socket));
  connection->send_window = connection->peer_window = DEFAULT_WINDOW;
  connection->peer_max_frame = 16384;
  connection->number = (uint32_t)launched;
  connection->next_stream = options.mode == REQUESTS ? 1 : 2 * (uint32_t)options.streams + 1;
  if (options.h2) {
    connection->fields = allocate(1, sizeof *connection->fields);
    connection->fields->limit = HPACK_TABLE;
  }
  for (int i = 0; i < options.streams; i++) {
    struct socket *socket = &connection->sockets[i];
    socket->connection = connection;
    socket->number = (uint32_t)(launched * options.streams + i);
    socket->stream = (uint32_t)(2 * i + 1);
    socket->send_window = DEFAULT_WINDOW;
    socket->sent_at = allocate((size_t)options.depth, sizeof(double));
  }
  int kind = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  int fd = connection->fd = must(socket(AF_INET, kind, 0), "socket");
  must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), "setsockopt");
  if (tls) {
    connection->tls = SSL_new(tls);
    if (!connection->tls) die("out of memory");
    must_tls(SSL_set_fd(connection->tls, fd), "SSL_set_fd");
    must_tls(SSL_set_tlsext_host_name(connection->tls, "localhost"), "server name");
    must_tls(SSL_set1_host(connection->tls, "localhost"), "SSL_set1_host");
  }
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)options.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
    die("connect: %s", strerror(errno));
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
  connection->wants_write = 1;
  must(epoll_ctl(poll_set, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  launched++;
}

static SSL_CTX *tls_context(void) {
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  if (!context) die("out of memory");
  SSL_CTX_set_mode(context,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
  if (SSL_CTX_load_verify_locations(context, options.ca, NULL) != 1)
    die("cannot read %s", options.ca);
  const char *protocols = options.h2 ? "\x02h2" : "\x08http/1.1";
  if (SSL_CTX_set_alpn_protos(context, (const uint8_t *)protocols,
                              (unsigned)strlen(protocols)))
    die("out of memory");
  return context;
}

/* The run. --------------------------------------------------------------------------- */

static int number(const char *text, int least) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*end || value < least || value > 1 << 28) die("%s is not a number that fits", text);
  return (int)value;
}

static void read_processes(char *list) {
  char *rest, *word = strtok_r(list, ",", &rest);
  for (; word; word = strtok_r(NULL, ",", &rest)) {
    if (options.process_count == MAX_PROCESSES) die("too many processes");
    options.processes[options.process_count++] = number(word, 1);
  }
}

static struct resource *new_resource(const char *path, size_t size) {
  if (resource_count == MAX_RESOURCES) die("too many resources");
  if (*path != '/' || size >= MAX_PATH) die("a path begins with / and is short");
  struct resource *resource = &resources[resource_count++];
  memcpy(resource->path, path, size);
  options.mode = REQUESTS;
  return resource;
}

static void read_get(const char *word) {
  const char *equals = strrchr(word, '=');
  if (!equals) die("--get takes PATH=SIZE");
  new_resource(word, (size_t)(equals - word))->size = (size_t)number(equals + 1, 0);
}

/* The server answers an upload with the number of bytes that it has read. */
static void read_post(const char *word) {
  new_resource(word, strlen(word))->upload = 1;
}

static void prepare_answers(void) {
  for (size_t i = 0; i < resource_count; i++) {
    struct resource *resource = &resources[i];
    if (!resource->upload) continue;
    snprintf(resource->answer, sizeof resource->answer, "%zu", options.size);
    resource->size = strlen(resource->answer);
  }
}

static void read_options(int count, char **words) {
  static const struct option names[] = {
      {"connections", 1, NULL, 'c'}, {"streams", 1, NULL, 's'}, {"depth", 1, NULL, 'd'},
      {"size", 1, NULL, 'z'},        {"seconds", 1, NULL, 't'}, {"warm-up", 1, NULL, 'w'},
      {"path", 1, NULL, 'p'},        {"tls", 1, NULL, 'T'},     {"h2", 0, NULL, '2'},
      {"fan-out", 0, NULL, 'f'},     {"idle", 0, NULL, 'i'},    {"processes", 1, NULL, 'P'},
      {"get", 1, NULL, 'g'},         {"post", 1, NULL, 'o'},    {"vary", 0, NULL, 'v'},
      {NULL, 0, NULL, 0}};
  int option;
  while ((option = getopt_long(count, words, "", names, NULL)) != -1) switch (option) {
      case 'c': options.connections = number(optarg, 1); break;
      case 's': options.streams = number(optarg, 1); break;
      case 'd': options.depth = number(optarg, 1); break;
      case 'z': options.size = (size_t)number(optarg, 1); break;
      case 't': options.seconds = atof(optarg); break;
      case 'w': options.warm_up = atof(optarg); break;
      case 'p': options.path = optarg; break;
      case 'T': options.ca = optarg; break;
      case '2': options.h2 = 1; break;
      case 'f': options.mode = FANOUT; break;
      case 'i': options.mode = IDLE; break;
      case 'P': read_processes(optarg); break;
      case 'g': read_get(optarg); break;
      case 'o': read_post(optarg); break;
      case 'v': options.vary = 1; break;
      default: exit(2);
    }
  if (optind != count - 1) {
    fprintf(stderr, "usage: load [--connections N] [--streams N] [--depth N] [--size N]"
                    " [--seconds S] [--warm-up S] [--path P] [--tls CA] [--h2]"
                    " [--fan-out | --idle | {--get PATH=SIZE | --post PATH}... [--vary]]"
                    " [--processes PID,PID] PORT\n");
    exit(2);
  }
  options.port = number(words[optind], 1);
  if (strlen(options.path) > 100) die("the path is too long");
  prepare_answers();
  if (!options.h2 && options.streams != 1) die("HTTP/1.1 has one socket a connection");
  total = options.connections * options.streams;
}

static void raise_file_limit(void) {
  struct rlimit limit;
  must(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
  limit.rlim_cur = limit.rlim_max;
  must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

static void serve_events(void) {
  struct epoll_event events[256];
  int count = epoll_wait(poll_set, events, 256, 10);
  if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
  for (int i = 0; i < count; i++) on_event(events[i].data.ptr, events[i].events);
}

static void open_sockets(SSL_CTX *tls) {
  double limit = now() + OPEN_LIMIT_S;
  while (open_count < total || (options.mode == FANOUT && joined_count < total)) {
    while (launched < options.connections &&
           launched - open_count / options.streams < OPENING_AT_ONCE)
      launch(tls);
    serve_events();
    if (now() > limit) die("%d of %d sockets open in time", open_count, total);
  }
}

static void run_for(double seconds) {
  double end = now() + seconds;
  while (now() < end) {
    serve_events();
    if (options.mode != IDLE && now() - last_message_at > STALL_LIMIT_S)
      die("no message for %d s", STALL_LIMIT_S);
  }
}

int main(int count, char **words) {
  if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) die("signal: %s", strerror(errno));
  read_options(count, words);
  raise_file_limit();
  make_variants();
  hpack_begin();
  poll_set = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  connections = allocate((size_t)options.connections, sizeof *connections);
  dirty = allocate((size_t)options.connections, sizeof *dirty);
  SSL_CTX *tls = options.ca ? tls_context() : NULL;

  double rss_before = resident_kib(), cpu = cpu_seconds(), began = now();
  open_sockets(tls);
  double open_cpu = cpu_seconds() - cpu;
  run_for(options.warm_up);
  measuring = 1;
  double start = now();
  cpu = cpu_seconds();
  run_for(options.seconds);
  double end_cpu = cpu_seconds(), end = now();
  printf("{\"sockets\": %d, \"open_seconds\": %.6f, \"open_cpu_seconds\": %.6f, "
         "\"open_p50_us\": %.1f, \"open_p99_us\": %.1f, \"messages\": %lu, "
         "\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"p50_us\": %.1f, "
         "\"p99_us\": %.1f, \"max_us\": %.1f, \"rss_kib_before\": %.0f, "
         "\"rss_kib\": %.0f}\n",
         total, opened_at - began, open_cpu, percentile_us(&open_latencies, 0.5),
         percentile_us(&open_latencies, 0.99), (unsigned long)messages, end - start,
         end_cpu - cpu, percentile_us(&latencies, 0.5), percentile_us(&latencies, 0.99),
         (double)latencies.largest / 1e3, rss_before, resident_kib());
  return 0;
}
