/* The tree of a git commit: a table of git commands, one after another. */
#include "orchestrator/stage_git.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/random.h"
#include "base/unpack.h"
#include "orchestrator/stage_fetch.h"
#include "sandbox/remove_tree.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum {
    ARGUMENTS_LIMIT = 16,
    VARIABLES_LIMIT = 40,
    /* Over the entry's limit: what a tar adds to its files. */
    ARCHIVE_OVERHEAD_BYTES = 16 * 1024 * 1024,
    MEMORY_BYTES = 2000 * 1024 * 1024,
    LISTING_LIMIT = 16 * 1024 * 1024,
    COMPLAINT_LIMIT = 16 * 1024,
    COMMIT_LIMIT = 200,
    LEFT_OUT_LIMIT = 4 * 1024,
    LINKS_LIMIT = 500,
    TARGET_LIMIT = 4095, /* PATH_MAX less its NUL */
    TARGETS_LIMIT = 4 * 1024 * 1024,
};

enum git_step { GIT_INIT, GIT_FETCH, GIT_COMMIT, GIT_LIST, GIT_TARGETS, GIT_ARCHIVE, GIT_STEPS };

struct stage_git {
    struct loop *loop;
    const struct stage_options *options;
    char *place;  /* our directory */
    char *name;   /* its last component */
    char *source; /* the URL for git */
    char *ref;
    char *credential_key; /* "http.<prefix>.extraHeader", or NULL */
    char *credential;
    struct error *failure; /* found before the first step */
    struct stage_link *links;
    size_t link_count;
    struct buffer left_out;
    enum git_step step;
    struct process *process;
    struct loop_timer *timer; /* begins the next step */
    void (*done)(void *context, const struct stage_git_result *result, const struct error *error);
    void *context;
};

/* Files of ours. */

static char *path_of(const struct stage_git *git, const char *name) {
    return memory_format("%s/%s", git->place, name);
}

static bool write_file(const struct stage_git *git, const char *name, const char *text,
                       struct error **error) {
    CLEANUP_FREE char *path = path_of(git, name);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd < 0 ? error_set_errno(error, errno, "cannot write %s", path)
                  : io_write_all(fd, text, strlen(text), error);
}

static bool remove_place(const char *directory, const char *name, struct error **error) {
    CLEANUP_CLOSE int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_complete = false;
    return fd < 0 ? error_set_errno(error, errno, "%s", directory)
                  : remove_tree(fd, name, -1, &is_complete, error);
}

bool stage_git_prepare(const char *directory, struct error **error) {
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        return error_set_errno(error, errno, "cannot make %s", directory);
    }
    CLEANUP_DIR DIR *stream = opendir(directory);
    if (stream == NULL) {
        return error_set_errno(error, errno, "cannot read %s", directory);
    }
    for (struct dirent *found = NULL; (found = readdir(stream)) != NULL;) {
        if (found->d_name[0] != '.' && !remove_place(directory, found->d_name, error)) {
            return false;
        }
    }
    return true;
}

/* All that git is to know of configuration; its own files and the repository's are not read. */
static bool make_place(struct stage_git *git, struct error **error) {
    static const char configuration[] =
        "[safe]\n\tdirectory = *\n"
        "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n"
        "[credential]\n\thelper =\n"
        "[http]\n\tfollowRedirects = false\n\tlowSpeedLimit = 1\n\tlowSpeedTime = 30\n"
        "[init]\n\tdefaultBranch = main\n"
        "[fetch]\n\trecurseSubmodules = false\n\tunpackLimit = 1\n"
        "[pack]\n\tthreads = 1\n"
        "[gc]\n\tauto = 0\n"
        "[maintenance]\n\tauto = false\n"
        "[uploadpack]\n\tallowAnySHA1InWant = true\n";
    if (mkdir(git->place, 0700) != 0) {
        return error_set_errno(error, errno, "cannot make %s", git->place);
    }
    return write_file(git, "config", configuration, error);
}

/* The commands. */

static void arguments_of(const struct stage_git *git, const char *arguments[ARGUMENTS_LIMIT]) {
    const char *const commands[GIT_STEPS][ARGUMENTS_LIMIT] = {
        [GIT_INIT] = {"git", "init", "--quiet", "--bare", "--template=", "repository"},
        [GIT_FETCH] = {"git", "--git-dir=repository", "fetch", "--quiet", "--depth=1", "--no-tags",
                       "--no-recurse-submodules", "--no-write-commit-graph", "--", git->source,
                       git->ref},
        [GIT_COMMIT] = {"git", "--git-dir=repository", "rev-parse", "--verify",
                        "FETCH_HEAD^{commit}"},
        [GIT_LIST] = {"git", "--git-dir=repository", "ls-tree", "-r", "-z", "--full-tree",
                      "FETCH_HEAD"},
        [GIT_TARGETS] = {"git", "--git-dir=repository", "cat-file", "--batch"},
        [GIT_ARCHIVE] = {"git", "--git-dir=repository", "archive", "--format=tar", "FETCH_HEAD"},
    };
    memcpy(arguments, commands[git->step], sizeof(commands[git->step]));
}

static bool is_passed_on(const char *variable) {
    static const char *const names[] = {
        "PATH=",         "http_proxy=",     "https_proxy=",    "HTTPS_PROXY=",
        "no_proxy=",     "NO_PROXY=",       "ALL_PROXY=",      "SSL_CERT_FILE=",
        "SSL_CERT_DIR=", "CURL_CA_BUNDLE=", "LD_LIBRARY_PATH="};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(variable, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

static char **environment_of(const struct stage_git *git) {
    char **variables = memory_zeroed(VARIABLES_LIMIT, sizeof(char *));
    size_t count = 0;
    for (size_t i = 0; environ[i] != NULL && count < VARIABLES_LIMIT / 2; i++) {
        if (is_passed_on(environ[i])) {
            variables[count++] = memory_string(environ[i]);
        }
    }
    static const char *const fixed[] = {
        "LC_ALL=C",
        "GIT_CONFIG_NOSYSTEM=1",
        "GIT_ATTR_NOSYSTEM=1",
        "GIT_TERMINAL_PROMPT=0",
        "GIT_ASKPASS=false",
        "GIT_ALLOW_PROTOCOL=http:https:file",
        "GIT_PROTOCOL_FROM_USER=0",
    };
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        variables[count++] = memory_string(fixed[i]);
    }
    variables[count++] = memory_format("HOME=%s", git->place);
    variables[count++] = memory_format("GIT_CONFIG_GLOBAL=%s/config", git->place);
    if (git->credential != NULL && git->step == GIT_FETCH) {
        variables[count++] = memory_string("GIT_CONFIG_COUNT=1");
        variables[count++] = memory_format("GIT_CONFIG_KEY_0=%s", git->credential_key);
        variables[count++] = memory_format("GIT_CONFIG_VALUE_0=%s", git->credential);
    }
    return variables;
}

static void free_environment(char **variables) {
    for (size_t i = 0; variables[i] != NULL; i++) {
        memory_wipe(variables[i], strlen(variables[i]));
        free(variables[i]);
    }
    free(variables);
}

static int open_output(const struct stage_git *git, const char *name) {
    CLEANUP_FREE char *path = path_of(git, name);
    return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static int open_input(const struct stage_git *git, const char *name) {
    CLEANUP_FREE char *path = path_of(git, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static const char *const output_names[GIT_STEPS] = {
    [GIT_INIT] = "ignored", [GIT_FETCH] = "ignored",   [GIT_COMMIT] = "commit",
    [GIT_LIST] = "listing", [GIT_TARGETS] = "targets", [GIT_ARCHIVE] = "archive.tar",
};

static void on_ended(void *context, int wait_status);

static bool run_step(struct stage_git *git, struct error **error) {
    const char *arguments[ARGUMENTS_LIMIT];
    arguments_of(git, arguments);
    CLEANUP_CLOSE int output_fd = open_output(git, output_names[git->step]);
    CLEANUP_CLOSE int error_fd = open_output(git, "complaints");
    CLEANUP_CLOSE int input_fd = git->step == GIT_TARGETS ? open_input(git, "ids") : -1;
    if (output_fd < 0 || error_fd < 0 || (git->step == GIT_TARGETS && input_fd < 0)) {
        return error_set_errno(error, errno, "cannot write in %s", git->place);
    }
    char **environment = environment_of(git);
    git->process =
        process_start(git->loop,
                      &(struct process_options){
                          .arguments = arguments,
                          .environment = (const char *const *)environment,
                          .directory = git->place,
                          .input_fd = input_fd,
                          .output_fd = output_fd,
                          .error_fd = error_fd,
                          .file_limit_bytes = git->options->entry_bytes + ARCHIVE_OVERHEAD_BYTES,
                          .memory_limit_bytes = MEMORY_BYTES,
                          .ends_group = true,
                          .ended = on_ended,
                          .context = git,
                      },
                      error);
    free_environment(environment);
    return git->process != NULL;
}

/* Endings. */

static void git_free(struct stage_git *git) {
    CLEANUP_ERROR struct error *error = NULL;
    process_free(git->process);
    if (!remove_place(git->options->directory, git->name, &error)) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("%s is left behind: %s", git->place, text);
    }
    loop_timer_free(git->timer);
    if (git->credential != NULL) {
        memory_wipe(git->credential, strlen(git->credential));
    }
    for (size_t i = 0; i < git->link_count; i++) {
        free(git->links[i].path);
        free(git->links[i].target);
    }
    free(git->links);
    buffer_free(&git->left_out);
    error_free(git->failure);
    free(git->credential);
    free(git->credential_key);
    free(git->place);
    free(git->name);
    free(git->source);
    free(git->ref);
    free(git);
}

static void conclude(struct stage_git *git, const struct stage_git_result *result,
                     const struct error *error) {
    git->done(git->context, result, error);
    git_free(git);
}

static bool read_output(const struct stage_git *git, const char *name, size_t limit,
                        struct buffer *out, struct error **error) {
    CLEANUP_FREE char *path = path_of(git, name);
    return io_read_file(AT_FDCWD, path, out, limit, error);
}

/* What git said last, as one line. */
static void set_complaint(const struct stage_git *git, int wait_status, struct error **error) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    CLEANUP_FREE char *how = process_describe_end(wait_status);
    (void)read_output(git, "complaints", COMPLAINT_LIMIT, &text, NULL);
    const char *said = buffer_string(&text);
    /* git does not say that a bound of ours ended the program that writes the pack. */
    if ((WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGXFSZ) ||
        strstr(said, "signal 25") != NULL || strstr(said, "File too large") != NULL ||
        strstr(said, "invalid index-pack output") != NULL) {
        (void)error_set(error, ERROR_LIMIT, "it is damaged, or larger than %lld bytes",
                        (long long)git->options->entry_bytes);
        return;
    }
    const char *line = strstr(said, "fatal: ");
    line = line == NULL ? said : line + strlen("fatal: ");
    int length = (int)strcspn(line, "\n");
    (void)error_set(error, ERROR_UNAVAILABLE, "git %s: %.*s", how, length, line);
}

/* Links and submodules. */

/* A line of `ls-tree -z`: "MODE TYPE ID<tab>PATH". Links go to the links, their ids to `ids`. */
static void take_listed(struct stage_git *git, const char *line, struct buffer *ids) {
    const char *path = strchr(line, '\t');
    bool is_link = strncmp(line, "120000 blob ", 12) == 0;
    bool is_submodule = strncmp(line, "160000 ", 7) == 0;
    if (path == NULL || (!is_link && !is_submodule)) {
        return;
    }
    if (is_link && git->link_count < LINKS_LIMIT && unpack_path_is_plain(path + 1)) {
        buffer_append(ids, line + 12, (size_t)(path - line - 12));
        buffer_append_char(ids, '\n');
        git->links[git->link_count++] = (struct stage_link){.path = memory_string(path + 1)};
    } else if (git->left_out.length < LEFT_OUT_LIMIT) {
        buffer_append_string(&git->left_out, path + 1);
        buffer_append_char(&git->left_out, '\n');
    }
}

static bool find_links(struct stage_git *git, struct error **error) {
    CLEANUP_BUFFER struct buffer listing = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer ids = BUFFER_EMPTY;
    if (!read_output(git, "listing", LISTING_LIMIT, &listing, error)) {
        return error_wrap(error, "the tree");
    }
    git->links = memory_zeroed(LINKS_LIMIT, sizeof(*git->links));
    buffer_append_char(&listing, '\0');
    for (size_t at = 0; at + 1 < listing.length; at += strlen(listing.data + at) + 1) {
        take_listed(git, listing.data + at, &ids);
    }
    return write_file(git, "ids", buffer_string(&ids), error);
}

/* What `cat-file --batch` answers for each id: "ID blob SIZE", and the bytes, each with a newline.
 */
static bool read_targets(struct stage_git *git, struct error **error) {
    CLEANUP_BUFFER struct buffer targets = BUFFER_EMPTY;
    if (!read_output(git, "targets", TARGETS_LIMIT, &targets, error)) {
        return error_wrap(error, "the links");
    }
    const char *at = buffer_string(&targets);
    const char *end = at + targets.length;
    for (size_t i = 0; i < git->link_count; i++) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        const char *size = line_end == NULL ? NULL : memrchr(at, ' ', (size_t)(line_end - at));
        size_t length = size == NULL ? 0 : strtoul(size + 1, NULL, 10);
        if (length == 0 || length > TARGET_LIMIT || length >= (size_t)(end - line_end) - 1 ||
            memchr(line_end + 1, '\0', length) != NULL) {
            return error_set(error, ERROR_PROTOCOL, "the link %s has no target",
                             git->links[i].path);
        }
        git->links[i].target = memory_string_n(line_end + 1, length);
        at = line_end + 1 + length + 1;
    }
    return true;
}

static bool read_result(const struct stage_git *git, struct buffer *archive, struct buffer *commit,
                        struct error **error) {
    if (!read_output(git, "commit", COMMIT_LIMIT, commit, error) ||
        !read_output(git, "archive.tar", (size_t)git->options->entry_bytes + ARCHIVE_OVERHEAD_BYTES,
                     archive, error)) {
        return error_wrap(error, "the tree");
    }
    buffer_truncate(commit, strcspn(buffer_string(commit), "\n"));
    return true;
}

static void finish(struct stage_git *git) {
    CLEANUP_BUFFER struct buffer archive = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer commit = BUFFER_EMPTY;
    CLEANUP_ERROR struct error *error = NULL;
    if (!read_result(git, &archive, &commit, &error)) {
        conclude(git, NULL, error);
        return;
    }
    conclude(git,
             &(struct stage_git_result){.archive = archive.data,
                                        .length = archive.length,
                                        .commit = buffer_string(&commit),
                                        .links = git->links,
                                        .link_count = git->link_count,
                                        .left_out = buffer_string(&git->left_out)},
             NULL);
}

static void on_ended(void *context, int wait_status) {
    struct stage_git *git = context;
    process_free(STEAL_PTR(git->process));
    if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != 0) {
        CLEANUP_ERROR struct error *error = NULL;
        set_complaint(git, wait_status, &error);
        conclude(git, NULL, error);
        return;
    }
    git->step++;
    loop_timer_arm(git->timer, 0);
}

/* A repository's attributes could leave files out of an archive, or change them. */
static bool overrule_attributes(const struct stage_git *git, struct error **error) {
    CLEANUP_FREE char *info = path_of(git, "repository/info");
    if (mkdir(info, 0700) != 0 && errno != EEXIST) {
        return error_set_errno(error, errno, "cannot make %s", info);
    }
    return write_file(git, "repository/info/attributes",
                      "* -export-ignore -export-subst -text -ident\n", error);
}

static void on_timer(void *context) {
    struct stage_git *git = context;
    CLEANUP_ERROR struct error *error = NULL;
    if (git->failure != NULL) {
        conclude(git, NULL, git->failure);
        return;
    }
    if (git->step == GIT_STEPS) {
        finish(git);
        return;
    }
    bool is_ready = git->step == GIT_INIT      ? make_place(git, &error)
                    : git->step == GIT_FETCH   ? overrule_attributes(git, &error)
                    : git->step == GIT_TARGETS ? find_links(git, &error)
                    : git->step == GIT_ARCHIVE ? read_targets(git, &error)
                                               : true;
    if (!is_ready || !run_step(git, &error)) {
        conclude(git, NULL, error);
    }
}

struct stage_git *stage_git_start(struct loop *loop, const struct stage_options *options,
                                  const struct stage_entry *entry,
                                  void (*done)(void *context, const struct stage_git_result *result,
                                               const struct error *error),
                                  void *context) {
    struct stage_git *git = memory_new(struct stage_git);
    const struct stage_credential *credential = stage_credential_of(options, &entry->url);
    git->loop = loop;
    git->options = options;
    git->name = random_id("git-");
    git->place = memory_format("%s/%s", options->directory, git->name);
    git->ref = memory_string(entry->ref == NULL ? "HEAD" : entry->ref);
    git->done = done;
    git->context = context;
    git->timer = loop_timer_new(loop, on_timer, git);
    if (credential != NULL && entry->url.file == NULL) {
        git->credential_key = memory_format("http.%s.extraHeader", credential->prefix.text);
        git->credential = memory_string(credential->header);
    }
    /* git gets the path of a file URL, which it would decode in a way of its own. */
    git->source = entry->url.file == NULL ? memory_string(entry->url.text)
                                          : stage_real_path(options, &entry->url, &git->failure);
    loop_timer_arm(git->timer, 0);
    return git;
}

void stage_git_cancel(struct stage_git *take_git) {
    if (take_git != NULL) {
        git_free(take_git);
    }
}
