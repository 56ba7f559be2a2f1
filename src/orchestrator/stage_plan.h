/*
 * What a session wants staged, read from its metadata and held against what the operator allows.
 *
 * Metadata values are texts of at most 512 characters, so the list may go on in holt.stage.1,
 * holt.stage.2 and so on, each a JSON list of its own. docs/staging.md is the schema. Pure: no
 * clocks, no files, no network.
 */
#ifndef HOLT_ORCHESTRATOR_STAGE_PLAN_H
#define HOLT_ORCHESTRATOR_STAGE_PLAN_H

#include "base/json.h"
#include "net/http_client.h"
#include "net/url.h"

#define STAGE_KEY "holt.stage"

enum {
    STAGE_ENTRIES_LIMIT = 32,
    STAGE_STRIP_LIMIT = 32,
    STAGE_DIGEST_SIZE = 65, /* SHA-256 in hexadecimal and a NUL */
};

struct stage_credential {
    struct url prefix;
    const char *header; /* "Name: value", for whatever is below the prefix */
};

/* What the operator says; borrowed for the life of the daemon. */
struct stage_options {
    struct http_client *client;
    const struct url *allowed; /* prefixes; none: nothing may be staged */
    size_t allowed_count;
    const struct stage_credential *credentials;
    size_t credential_count;
    const char *directory; /* of our own, absolute: temporary files of git */
    int64_t entry_bytes;   /* of an entry: of its download and of what comes out of it */
    int64_t timeout_ms;    /* for everything of one session */
};

enum stage_kind { STAGE_FILE, STAGE_ARCHIVE, STAGE_GIT };

struct stage_entry {
    enum stage_kind kind;
    struct url url;
    char *path;                     /* plain and relative; "": the workspace itself */
    char *sha256;                   /* or NULL */
    char *ref;                      /* of git, or NULL */
    int64_t strip;                  /* leading components of an archive's paths that are dropped */
    char digest[STAGE_DIGEST_SIZE]; /* of the entry as it was written */
    char *label;                    /* for people: "entry 2, git https://host/path" */
    struct error *problem;          /* why it cannot be staged at all */
};

struct stage_plan {
    struct stage_entry *entries;
    size_t count;
};

/* Reads the metadata of a session; `options` NULL allows nothing. What is wrong becomes the problem
 * of an entry. False when nothing is to be staged. */
bool stage_plan_read(struct stage_plan *plan, struct json_object *metadata,
                     const struct stage_options *options);
void stage_plan_free(struct stage_plan *plan);

/* Whether a URL is allowed; ERROR_DENIED. */
bool stage_check_allowed(const struct stage_options *options, const struct url *url,
                         struct error **error);
/* The credential of the longest prefix that the URL is below, or NULL. */
const struct stage_credential *stage_credential_of(const struct stage_options *options,
                                                   const struct url *url);
void stage_digest(const void *bytes, size_t length, char digest[STAGE_DIGEST_SIZE]);

#endif
