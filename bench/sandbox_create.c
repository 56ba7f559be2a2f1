/*
 * Creation and destruction of a sandbox, side by side with bubblewrap and runc, in one run.
 *
 * Equal work: namespaces (user, pid, mount, ipc, uts, network), a root file system, and a program.
 * holt's sandbox is ready when its static hand runs and is connected to; the others start `true`
 * and end. holt has an overlay, cgroups, Landlock and seccomp too; bwrap has none of these here,
 * and runc has what `runc spec` gives. Usage: sandbox_create HAND [COUNT]. Runs as root.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "sandbox/remove_tree.h"
#include "sandbox/sandbox.h"

enum { DEFAULT_COUNT = 200, WARM_UP = 5, NAME_WIDTH = 34 };

extern char **environ;

struct series {
    int64_t *values;
    size_t count;
};

static int compare(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one;
    int64_t b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static int64_t percentile(struct series *series, size_t percent) {
    if (series->count == 0) {
        return -1;
    }
    qsort(series->values, series->count, sizeof(int64_t), compare);
    return series->values[(series->count - 1) * percent / 100];
}

static struct series series_new(size_t count) {
    return (struct series){.values = memory_zeroed(count, sizeof(int64_t))};
}

static void print_row(const char *name, struct series *series, int64_t base) {
    if (series->count == 0) {
        (void)printf("%-*s %10s\n", NAME_WIDTH, name, "absent");
    } else {
        int64_t p50 = percentile(series, 50);
        (void)printf("%-*s %10lld %10lld %9.1fx\n", NAME_WIDTH, name, (long long)p50,
                     (long long)percentile(series, 99), (double)p50 / (double)base);
    }
    free(series->values);
}

/* One step of ours: done when the callback says so. */
struct step {
    bool is_done;
    bool has_failed;
    int fd;
    int64_t keeper_us;
};

static void end_step(struct step *step, const struct error *error) {
    step->is_done = true;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        (void)fprintf(stderr, "%s\n", text);
        step->has_failed = true;
    }
}

static void on_created(void *context, const struct sandbox_info *info, int take_fd,
                       const struct error *error) {
    struct step *step = context;
    step->fd = take_fd;
    step->keeper_us = info == NULL ? 0 : info->created_us;
    end_step(step, error);
}

static void on_destroyed(void *context, const struct error *error) {
    end_step(context, error);
}

static bool measure_ours(struct loop *loop, struct keeper *keeper, size_t count,
                         struct series *create, struct series *inside_keeper,
                         struct series *destroy) {
    for (size_t i = 0; i < count + WARM_UP; i++) {
        struct step created = {.fd = -1};
        int64_t begun = clock_monotonic_us();
        sandbox_create(keeper, "bench", on_created, &created);
        while (!created.is_done) {
            loop_run_once(loop, true);
        }
        int64_t ready = clock_monotonic_us();
        if (created.fd >= 0) {
            (void)close(created.fd);
        }
        struct step destroyed = {0};
        int64_t ending = clock_monotonic_us();
        sandbox_destroy(keeper, "bench", on_destroyed, &destroyed);
        while (!destroyed.is_done) {
            loop_run_once(loop, true);
        }
        if (created.has_failed || destroyed.has_failed) {
            return false;
        }
        if (i >= WARM_UP) {
            create->values[create->count++] = ready - begun;
            inside_keeper->values[inside_keeper->count++] = created.keeper_us;
            destroy->values[destroy->count++] = clock_monotonic_us() - ending;
        }
    }
    return true;
}

static bool run_once(char *const *arguments) {
    pid_t pid = 0;
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    int result = posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    int status = -1;
    if (result != 0) {
        return false;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static struct series measure_peer(char *const *arguments, size_t count) {
    struct series series = series_new(count);
    for (size_t i = 0; i < count; i++) {
        int64_t begun = clock_monotonic_us();
        if (!run_once(arguments)) {
            series.count = 0;
            return series;
        }
        series.values[series.count++] = clock_monotonic_us() - begun;
    }
    return series;
}

static struct series measure_bwrap(size_t count) {
    char *const arguments[] = {
        "bwrap",     "--unshare-all", "--ro-bind", "/usr",    "/usr",  "--symlink",
        "usr/bin",   "/bin",          "--symlink", "usr/lib", "/lib",  "--symlink",
        "usr/lib64", "/lib64",        "--proc",    "/proc",   "--dev", "/dev",
        "--tmpfs",   "/tmp",          "true",      NULL};
    return measure_peer(arguments, count);
}

/* A bundle from `runc spec`: our /usr as root, `true` as process, no terminal. */
static struct series measure_runc(const char *directory, size_t count) {
    struct series none = {.values = memory_zeroed(1, sizeof(int64_t))};
    CLEANUP_FREE char *script = memory_format(
        "cd %s && mkdir -p rootfs/usr rootfs/proc rootfs/dev rootfs/sys && "
        "ln -s usr/bin rootfs/bin && ln -s usr/lib rootfs/lib && ln -s usr/lib64 rootfs/lib64 && "
        "runc spec && sed -i -e 's/\"terminal\": true/\"terminal\": false/' "
        "-e 's/\"sh\"/\"true\"/' -e '0,/\"mounts\": \\[/s##\"mounts\": "
        "[{\"destination\":\"/usr\",\"type\":\"bind\",\"source\":\"/usr\","
        "\"options\":[\"bind\",\"ro\"]},#' config.json",
        directory);
    char *const prepare[] = {"sh", "-c", script, NULL};
    if (!run_once(prepare)) {
        return none;
    }
    free(none.values);
    CLEANUP_FREE char *bundle = memory_string(directory);
    char *const arguments[] = {"runc", "run", "--bundle", bundle, "holt-bench", NULL};
    return measure_peer(arguments, count);
}

static bool bench(struct loop *loop, const char *directory, const char *hand, size_t count,
                  struct error **error) {
    CLEANUP_FREE char *state = memory_format("%s/state", directory);
    const struct keeper_options options = {.state_directory = state,
                                           .hand_path = hand,
                                           .memory_limit_bytes = (int64_t)1 << 30,
                                           .pids_limit = 512};
    struct keeper *keeper = keeper_start(loop, &options, error);
    if (keeper == NULL) {
        return false;
    }
    struct series create = series_new(count);
    struct series inside_keeper = series_new(count);
    struct series destroy = series_new(count);
    bool is_measured = measure_ours(loop, keeper, count, &create, &inside_keeper, &destroy);
    keeper_stop(keeper);
    if (!is_measured) {
        return error_set(error, ERROR_UNAVAILABLE, "a sandbox failed");
    }
    CLEANUP_FREE char *bundle = memory_format("%s/bundle", directory);
    (void)mkdir(bundle, 0700);
    struct series bwrap = measure_bwrap(count);
    struct series runc = measure_runc(bundle, count / 4 + 1);
    int64_t base = percentile(&create, 50);
    (void)printf("%-*s %10s %10s %10s\n", NAME_WIDTH, "us", "p50", "p99", "ratio");
    print_row("holt create, seen by front", &create, base);
    print_row("holt create, in keeper", &inside_keeper, base);
    print_row("holt destroy", &destroy, base);
    print_row("bwrap, run true and end", &bwrap, base);
    print_row("runc run, run true and end", &runc, base);
    return true;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        (void)fprintf(stderr, "usage: sandbox_create HAND [COUNT]\n");
        return 2;
    }
    size_t count = argc > 2 ? strtoul(argv[2], NULL, 10) : DEFAULT_COUNT;
    char directory[] = "/tmp/holt-bench-XXXXXX";
    CLEANUP_ERROR struct error *error = NULL;
    struct loop *loop = loop_new(&error);
    bool is_good = loop != NULL && count > 0 && mkdtemp(directory) != NULL &&
                   bench(loop, directory, argv[1], count, &error);
    loop_free(loop);
    bool is_complete = false;
    (void)remove_tree(AT_FDCWD, directory, -1, &is_complete, NULL);
    if (!is_good) {
        CLEANUP_FREE char *text = error_text(error);
        (void)fprintf(stderr, "sandbox_create: %s\n", text);
    }
    return is_good ? 0 : 1;
}
