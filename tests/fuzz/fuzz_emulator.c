/*
 * Fuzzes the emulator with requests over a real connection: it answers each, in JSON when it says
 * so, and ends without a leak.
 *
 * A line is a request: who asks (A the application, K the environment's key, T the session's token,
 * N nobody), method, path, body. "@e", "@a", "@s", "@w" and "@t" in it stand for the newest
 * environment, agent, session, work item and event that an answer named.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"
#include "emulator/emulator.h"

enum { REQUESTS_LIMIT = 40, IDLE_TURNS = 6, ANSWER_LIMIT = 4 << 20, READ_SIZE = 65536 };

#define ORGANIZATION_KEY "sk-ant-test"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct peer {
    struct loop *loop;
    struct emulator *emulator;
    int fd;
    struct buffer answer;
    char *names['z' - 'a' + 1]; /* newest id by its letter */
    char *key;
    char *token;
};

static const struct {
    const char *prefix;
    char letter;
} id_kinds[] = {{"env_", 'e'}, {"agent_", 'a'}, {"sesn_", 's'}, {"work_", 'w'}, {"sevt_", 't'}};

static void hang_up(struct peer *peer) {
    if (peer->fd >= 0) {
        (void)close(peer->fd);
        peer->fd = -1;
    }
}

static void dial(struct peer *peer) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(emulator_port(peer->emulator)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    /* A reset instead of TIME_WAIT: there are not enough ports for that. */
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer->fd < 0 ||
        setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) != 0 ||
        connect(peer->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        abort();
    }
}

/* The text with its "@x" replaced. */
static void append_named(struct buffer *out, const struct peer *peer, const char *text,
                         size_t length) {
    for (size_t i = 0; i < length; i++) {
        bool is_name = text[i] == '@' && i + 1 < length && text[i + 1] >= 'a' && text[i + 1] <= 'z';
        const char *name = is_name ? peer->names[text[i + 1] - 'a'] : NULL;
        if (name != NULL) {
            buffer_append_string(out, name);
            i++;
        } else {
            buffer_append_char(out, text[i]);
        }
    }
}

static void take_id(struct peer *peer, const char *id) {
    for (size_t i = 0; id != NULL && i < sizeof(id_kinds) / sizeof(id_kinds[0]); i++) {
        if (strncmp(id, id_kinds[i].prefix, strlen(id_kinds[i].prefix)) == 0) {
            char **name = &peer->names[id_kinds[i].letter - 'a'];
            free(*name);
            *name = memory_string(id);
        }
    }
}

static void take_secret(struct peer *peer, const char *secret) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    CLEANUP_JSON struct json_object *object = NULL;
    if (secret != NULL && base64_decode(&text, secret, strlen(secret)) &&
        json_parse(buffer_string(&text), text.length, &object, NULL) &&
        json_get_string(object, "sessions_token") != NULL) {
        free(peer->token);
        peer->token = memory_string(json_get_string(object, "sessions_token"));
    }
}

static void learn(struct peer *peer, struct json_object *answer) {
    take_id(peer, json_get_string(answer, "id"));
    take_secret(peer, json_get_string(answer, "secret"));
    const char *key = json_get_string(answer, "key");
    if (key != NULL) {
        free(peer->key);
        peer->key = memory_string(key);
    }
    struct json_object *data = json_get_array(answer, "data");
    size_t count = data == NULL ? 0 : json_object_array_length(data);
    for (size_t i = 0; i < count; i++) {
        take_id(peer, json_get_string(json_object_array_get_idx(data, i), "id"));
    }
}

/* Where the value of a header begins; NULL when the head has none. The head ends with a NUL. */
static const char *header(const char *head, const char *name) {
    const char *at = strcasestr(head, name);
    return at == NULL ? NULL : at + strlen(name);
}

/* True when the whole answer is there; then checks it. */
static bool take_answer(struct peer *peer) {
    char *end = strstr(peer->answer.data == NULL ? "" : peer->answer.data, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    CLEANUP_FREE char *head = memory_string_n(peer->answer.data, (size_t)(end - peer->answer.data));
    const char *body = end + 4;
    size_t have = peer->answer.length - (size_t)(body - peer->answer.data);
    const char *length_text = header(head, "\r\ncontent-length:");
    size_t length = length_text == NULL ? 0 : strtoul(length_text, NULL, 10);
    if (length_text == NULL || have < length) {
        return false; /* a stream never is whole */
    }
    const char *type = header(head, "\r\ncontent-type: ");
    if (type != NULL && strncmp(type, "application/json", 16) == 0) {
        CLEANUP_JSON struct json_object *object = NULL;
        if (!json_parse(body, length, &object, NULL)) {
            abort();
        }
        learn(peer, object);
    }
    return true;
}

/* Lets the emulator work and reads what comes, until the answer is whole or nothing comes. */
static void hear(struct peer *peer) {
    buffer_truncate(&peer->answer, 0);
    for (int idle = 0; idle < IDLE_TURNS && peer->answer.length < ANSWER_LIMIT; idle++) {
        loop_run_once(peer->loop, false);
        char *end = buffer_reserve(&peer->answer, READ_SIZE);
        ssize_t got = recv(peer->fd, end, READ_SIZE, MSG_DONTWAIT);
        if (got > 0) {
            peer->answer.length += (size_t)got;
            peer->answer.data[peer->answer.length] = '\0';
            idle = -1;
        }
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            break;
        }
        if (take_answer(peer)) {
            return;
        }
    }
    hang_up(peer);
    loop_run_once(peer->loop, false);
}

static void ask(struct peer *peer, const char *line, size_t length) {
    const char *method = memchr(line, ' ', length);
    const char *rest = line + length;
    const char *path = method == NULL ? NULL : memchr(method + 1, ' ', (size_t)(rest - method) - 1);
    if (path == NULL) {
        return;
    }
    const char *body = memchr(path + 1, ' ', (size_t)(rest - path) - 1);
    body = body == NULL ? rest : body + 1;
    CLEANUP_BUFFER struct buffer content = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer request = BUFFER_EMPTY;
    append_named(&content, peer, body, (size_t)(rest - body));
    append_named(&request, peer, method + 1, (size_t)(body - method) - 1);
    if (request.length > 0 && request.data[request.length - 1] == ' ') {
        buffer_truncate(&request, request.length - 1);
    }
    const char *bearer = line[0] == 'K' ? peer->key : line[0] == 'T' ? peer->token : NULL;
    buffer_append_string(&request, " HTTP/1.1\r\nHost: x\r\n");
    if (line[0] == 'A') {
        buffer_append_string(&request, "x-api-key: " ORGANIZATION_KEY "\r\n");
    } else if (bearer != NULL) {
        buffer_append_format(&request, "Authorization: Bearer %s\r\n", bearer);
    }
    buffer_append_format(&request, "Content-Length: %zu\r\n\r\n", content.length);
    buffer_append(&request, buffer_string(&content), content.length);
    if (peer->fd < 0) {
        dial(peer);
    }
    if (send(peer->fd, request.data, request.length, MSG_NOSIGNAL) != (ssize_t)request.length) {
        hang_up(peer);
        return;
    }
    hear(peer);
}

static void ask_lines(struct peer *peer, const char *text, size_t size) {
    for (int i = 0; i < REQUESTS_LIMIT && size > 0; i++) {
        const char *end = memchr(text, '\n', size);
        size_t length = end == NULL ? size : (size_t)(end - text);
        ask(peer, text, length);
        size_t eaten = end == NULL ? length : length + 1;
        text += eaten;
        size -= eaten;
    }
}

static struct loop *the_loop(void) {
    static struct loop *loop = NULL;
    if (loop == NULL) {
        loop = loop_new(NULL);
    }
    return loop;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char beginning[] =
        "A POST /v1/environments {\"name\":\"e\",\"config\":{\"type\":\"self_hosted\"}}\n"
        "A POST /emulator/environments/@e/keys\n"
        "A POST /v1/agents {\"name\":\"a\",\"model\":\"m\",\"tools\":[]}\n"
        "A POST /v1/sessions {\"agent\":\"@a\",\"environment_id\":\"@e\"}\n"
        "A POST /v1/sessions/@s/events {\"events\":[{\"type\":\"user.message\",\"content\":[]}]}\n"
        "K GET /v1/environments/@e/work/poll\n";
    struct peer peer = {.loop = the_loop(), .fd = -1};
    peer.emulator = emulator_new(peer.loop,
                                 &(struct emulator_options){.address = "127.0.0.1",
                                                            .api_key = ORGANIZATION_KEY,
                                                            .lease_ttl_ms = 60000},
                                 NULL);
    if (peer.emulator == NULL) {
        abort();
    }
    ask_lines(&peer, beginning, sizeof(beginning) - 1);
    if (peer.key == NULL || peer.token == NULL) {
        abort(); /* the beginning must work, or nothing is tested */
    }
    ask_lines(&peer, (const char *)data, size);
    hang_up(&peer);
    emulator_free(peer.emulator);
    buffer_free(&peer.answer);
    for (size_t i = 0; i < sizeof(peer.names) / sizeof(peer.names[0]); i++) {
        free(peer.names[i]);
    }
    free(peer.key);
    free(peer.token);
    return 0;
}
