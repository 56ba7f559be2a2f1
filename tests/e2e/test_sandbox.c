/* What is true inside a sandbox, and what is left after one. Runs as root. */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "sandbox/keeper_process.h"
#include "sandbox/keeper_protocol.h"
#include "sandbox_harness.h"

/* One keeper for the tests that only look inside. */
static int open_group(void **state) {
    struct harness *harness = memory_new(struct harness);
    harness_open(harness);
    harness_start(harness, NULL);
    *state = harness;
    return 0;
}

static int close_group(void **state) {
    harness_close(*state);
    free(*state);
    return 0;
}

static void test_agent_is_root_of_its_own_ids(void **state) {
    struct box box;
    box_create(*state, &box, "ids");
    box_expect(&box, "id -u; stat -c %u /usr/bin/env; wc -l < /proc/self/uid_map", "0\n0\n1");
    box_expect(&box, "awk '{print $1, $3, ($2 >= 268435456)}' /proc/self/uid_map", "0 65536 1");
    box_expect(&box, "touch f; chown 1000:1000 f; stat -c %u:%g f", "1000:1000");
    box_expect(&box, "touch /usr/bin/new && rm /usr/bin/env && ls /usr/bin/new", "/usr/bin/new");
    box_destroy(*state, &box);
    assert_int_equal(access("/usr/bin/new", F_OK), -1);
    assert_int_equal(access("/usr/bin/env", F_OK), 0);
}

static void test_nothing_of_the_host_is_visible(void **state) {
    struct box box;
    (void)setenv("ANTHROPIC_API_KEY", "sk-secret", 1);
    box_create(*state, &box, "host");
    (void)unsetenv("ANTHROPIC_API_KEY");
    box_expect(&box, "ls -A /root /home /home/agent /mnt /srv /opt /sys /workspace | tr '\\n' ' '",
               "/home: agent  /home/agent:  /mnt:  /opt:  /root:  /srv:  /sys:  /workspace:");
    box_expect(&box,
               "ls -d /etc/shadow /etc/ssh /etc/sudoers /var/lib/dpkg /work /boot 2>/dev/null; "
               "echo none; hostname; wc -c < /etc/resolv.conf",
               "none\nsandbox\n0");
    box_expect(&box, "env | cut -d= -f1 | sort | tr '\\n' ' '",
               "HOME LANG LOGNAME PATH PWD SHELL SHLVL USER _");
    box_expect(&box, "grep -ls sk-secret /proc/*/environ | wc -l", "0");
    box_destroy(*state, &box);
}

static void test_processes_see_only_each_other(void **state) {
    struct box box;
    box_create(*state, &box, "pids");
    box_expect(&box,
               "cat /proc/1/comm | wc -l; ls /proc | grep -c '^[0-9]' | awk '{print ($1 < 8)}'",
               "1\n1");
    box_expect(&box, "ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3");
    box_expect(&box, "cut -d: -f3 /proc/self/cgroup | sort -u", "/");
    box_destroy(*state, &box);
}

static void test_network_is_the_loopback_only(void **state) {
    struct box box;
    box_create(*state, &box, "net");
    box_expect(&box, "awk -F: 'NR > 2 {print $1}' /proc/net/dev | tr -d ' '", "lo");
    box_expect(&box, "(: > /dev/tcp/127.0.0.1/9) 2>&1 | grep -om1 'refused' | head -1", "refused");
    box_expect(&box, "(: > /dev/tcp/192.0.2.1/9) 2>&1 | grep -om1 'unreachable' | head -1",
               "unreachable");
    box_destroy(*state, &box);
}

static void test_kernel_files_are_masked(void **state) {
    struct box box;
    box_create(*state, &box, "masks");
    box_expect_failure(&box, "echo 1 > /proc/sys/kernel/panic");
    box_expect_failure(&box, "echo 1 > /proc/sys/net/ipv4/ip_forward");
    box_expect_failure(&box, "echo b > /proc/sysrq-trigger && test ! -c /proc/sysrq-trigger");
    box_expect(&box, "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c", "0");
    box_expect(&box, "ls /dev | tr '\\n' ' '",
               "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero");
    box_expect_failure(&box, "touch /dev/new");
    box_expect_failure(&box, "mknod /workspace/sda b 8 0");
    box_expect_failure(&box, "mknod /workspace/null c 1 3");
    box_expect(&box, "mkfifo /workspace/pipe && echo x > /dev/null && head -c 4 /dev/zero | wc -c",
               "4");
    box_expect(&box, "touch /tmp/a /dev/shm/a && stat -f -c %T /tmp /dev/shm", "tmpfs\ntmpfs");
    box_expect(&box, "script -qc 'tty' /dev/null </dev/null | tr -d '\\r'", "/dev/pts/0");
    box_expect(&box,
               "mkdir -p a b && touch a/f && mv a/f b/ && ln b/f a/g && ls a b | tr '\\n' ' '",
               "a: g  b: f");
    box_destroy(*state, &box);
}

static void test_privileges_are_bounded(void **state) {
    struct box box;
    box_create(*state, &box, "caps");
    box_expect(&box,
               "awk '/^(CapBnd|CapEff|CapPrm|NoNewPrivs|Seccomp):/ {print $2}' "
               "/proc/self/status | tr '\\n' ' '",
               "00000000a80425fb 00000000a80425fb 00000000a80425fb 1 2");
    box_expect(&box, "ulimit -c", "0");
    box_expect_failure(&box, "mount -t tmpfs x /mnt");
    box_expect_failure(&box, "umount /proc/sys");
    box_expect_failure(&box, "unshare -U true");
    box_expect_failure(&box, "unshare -m true");
    box_expect_failure(&box, "nsenter -t 1 -m true");
    box_expect_failure(&box, "hostname changed");
    box_destroy(*state, &box);
}

/* Each call is refused whatever its arguments: EPERM (1), ENOSYS (38) for a call not known,
 * EPROTONOSUPPORT (93) or EAFNOSUPPORT (97) for a socket not known. */
static const struct {
    const char *name;
    const char *call; /* arguments of syscall(2) in Python */
} refused_calls[] = {
    {"mount", "165, 0, 0, 0, 0, 0"},
    {"umount2", "166, b'/proc', 2"},
    {"pivot_root", "155, b'/', b'/'"},
    {"unshare(NEWUSER)", "272, 0x10000000"},
    {"setns", "308, 0, 0"},
    {"clone(NEWUSER)", "56, 0x10000011, 0, 0, 0, 0"},
    {"clone3", "435, 0, 0"},
    {"bpf", "321, 0, 0, 0"},
    {"perf_event_open", "298, 0, 0, 0, 0, 0"},
    {"keyctl", "250, 0, -3, 0"},
    {"add_key", "248, b'user', b'x', b'y', 1, -3"},
    {"kexec_load", "246, 0, 0, 0, 0"},
    {"init_module", "175, 0, 0, 0"},
    {"userfaultfd", "323, 0"},
    {"io_uring_setup", "425, 1, 0"},
    {"open_tree", "428, -100, b'/', 1"},
    {"fsopen", "430, b'tmpfs', 0"},
    {"mount_setattr", "442, -100, b'/', 0, 0, 0"},
    {"open_by_handle_at", "304, -1, 0, 0"},
    {"pidfd_getfd", "438, 0, 0, 0"},
    {"reboot", "169, 0, 0, 0, 0"},
    {"swapon", "167, b'/x', 0"},
    {"settimeofday", "164, 0, 0"},
    {"iopl", "172, 3"},
    {"syslog", "103, 3, 0, 0"},
    {"socket(AF_VSOCK)", "41, 40, 1, 0"},
    {"socket(AF_PACKET)", "41, 17, 3, 0"},
    {"socket(AF_ALG)", "41, 38, 5, 0"},
    {"socket(NETLINK_NETFILTER)", "41, 16, 3, 12"},
    {"ioctl(TIOCSTI)", "16, 0, 0x5412, b'x'"},
    {"ioctl(TIOCSTI with a high bit)", "16, 0, ctypes.c_ulong(0x100005412), b'x'"},
    {"ioctl(TIOCLINUX)", "16, 0, 0x541c, b'x'"},
    {"a call that does not exist", "999"},
};

static void test_system_calls_are_refused(void **state) {
    struct box box;
    box_create(*state, &box, "calls");
    for (size_t i = 0; i < sizeof(refused_calls) / sizeof(refused_calls[0]); i++) {
        CLEANUP_FREE char *script = memory_format(
            "python3 -c 'import ctypes\nl = ctypes.CDLL(None, use_errno=True)\n"
            "r = l.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in (%s,)])\n"
            "print(\"%s\", \"refused\" if r == -1 and ctypes.get_errno() in (1, 38, 93, 97) else r)'",
            refused_calls[i].call, refused_calls[i].name);
        for (char *at = strstr(script, "b'"); at != NULL; at = strstr(at, "b'")) {
            at[1] = '"';
            *strchr(at, '\'') = '"';
        }
        CLEANUP_FREE char *expected = memory_format("%s refused", refused_calls[i].name);
        box_expect(&box, script, expected);
    }
    box_destroy(*state, &box);
}

static void test_hand_is_out_of_reach(void **state) {
    struct box box;
    box_create(*state, &box, "hand");
    box_expect(&box,
               "for s in KILL STOP TERM INT HUP SEGV; do kill -$s 1; done; sleep 0.1; "
               "awk '/^State/ {print $2}' /proc/1/status",
               "S");
    box_expect_failure(&box, "cat /proc/1/environ");
    box_expect_failure(&box, "cat /proc/1/maps");
    box_expect_failure(&box, "head -c 1 /proc/1/mem");
    box_expect_failure(&box, "ls /proc/1/fd/");
    box_expect_failure(&box, "readlink /proc/1/exe");
    box_expect_failure(&box, "ls /proc/1/root/");
    box_expect_failure(&box, "cat /proc/1/exe > /dev/null");
    box_expect(&box, "python3 -c 'import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))'",
               "-1");
    box_expect(&box, "echo still here", "still here");
    box_destroy(*state, &box);
}

static void test_sandboxes_share_nothing(void **state) {
    struct box one;
    struct box two;
    box_create(*state, &one, "neighbour-1");
    box_create(*state, &two, "neighbour-2");
    box_expect(&one, "echo 1 > /workspace/f; echo 1 > /tmp/f; ls /workspace /tmp | wc -l", "5");
    box_expect(&two, "cat /workspace/f /tmp/f 2>/dev/null | wc -l", "0");
    CLEANUP_BUFFER struct buffer ids = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer other_ids = BUFFER_EMPTY;
    (void)box_run(&one, "cat /proc/self/uid_map", &ids);
    (void)box_run(&two, "cat /proc/self/uid_map", &other_ids);
    assert_string_not_equal(buffer_string(&ids), buffer_string(&other_ids));
    struct box again;
    box_begin(*state, &again, "neighbour-1");
    box_wait(*state, &again);
    assert_non_null(again.error);
    assert_int_equal(again.error->code, ERROR_CONFLICT);
    error_free(again.error);
    box_destroy(*state, &one);
    box_expect(&two, "echo alive", "alive");
    box_destroy(*state, &two);
}

static void test_a_malformed_id_is_refused_in_front(void **state) {
    struct box box;
    box_begin(*state, &box, "../etc");
    box_wait(*state, &box);
    assert_non_null(box.error);
    assert_int_equal(box.error->code, ERROR_INPUT);
    error_free(box.error);
}

static void test_limits_are_kept(void **state) {
    (void)state;
    struct harness harness;
    harness_open(&harness);
    const struct keeper_options options = {
        .memory_limit_bytes = 96 << 20, .pids_limit = 40, .cpu_limit_percent = 50};
    harness_start(&harness, &options);
    struct box box;
    box_create(&harness, &box, "limits");
    box_expect(&box,
               "python3 -c 'import os, signal\nchildren = []\ntry:\n"
               "  while len(children) < 100:\n    child = os.fork()\n"
               "    if child == 0: signal.pause()\n    children.append(child)\n"
               "except OSError as e: print(e.errno)\n"
               "for child in children: os.kill(child, 9); os.waitpid(child, 0)'",
               "11");
    box_expect(&box, "exec 2> /dev/null; python3 -c 'x = bytearray(300 << 20)'; echo $?", "137");
    box_expect(&box,
               "head -c 200M /dev/zero > /tmp/big 2>/dev/null; stat -c '%s' /tmp/big | "
               "awk '{print ($1 <= 50331648)}'; rm /tmp/big",
               "1");
    box_measure(&harness, &box);
    assert_in_range(box.usage.memory_bytes, 1, 96 << 20);
    assert_in_range(box.usage.process_count, 1, 40);
    assert_true(box.usage.cpu_us > 0);
    box_destroy(&harness, &box);
    harness_close(&harness);
}

static void test_agent_can_be_unprivileged(void **state) {
    (void)state;
    struct harness harness;
    harness_open(&harness);
    const struct keeper_options options = {.agent_is_unprivileged = true};
    harness_start(&harness, &options);
    struct box box;
    box_create(&harness, &box, "agent");
    box_expect(&box, "id -un; echo $HOME; touch /workspace/f ~/f; stat -c %U /workspace/f",
               "agent\n/home/agent\nagent");
    box_expect(&box, "awk '/^CapEff:/ {print $2}' /proc/self/status", "0000000000000000");
    box_expect_failure(&box, "touch /usr/f");
    box_expect_failure(&box, "kill -9 1");
    box_destroy(&harness, &box);
    harness_close(&harness);
}

static char *text_of(const char *command) {
    CLEANUP_BUFFER struct buffer out = BUFFER_EMPTY;
    FILE *pipe = popen(command, "r"); // NOLINT: fixed commands of this test
    assert_non_null(pipe);
    char line[512];
    while (fgets(line, sizeof(line), pipe) != NULL) {
        buffer_append_string(&out, line);
    }
    assert_int_equal(pclose(pipe), 0);
    return buffer_take_string(&out);
}

static void expect_refusal(struct harness *harness, const struct keeper_options *options,
                           const char *words) {
    CLEANUP_ERROR struct error *error = NULL;
    struct keeper *keeper = harness_try_start(harness, options, &error);
    assert_null(keeper);
    CLEANUP_FREE char *text = error_text(error);
    if (strstr(text, words) == NULL) {
        fail_msg("instead of \"%s\" keeper says: %s", words, text);
    }
}

static void test_root_can_be_a_directory(void **state) {
    (void)state;
    struct harness harness;
    harness_open(&harness);
    CLEANUP_FREE char *image = memory_format("%s/image", harness.directory);
    CLEANUP_FREE char *command =
        memory_format("mkdir -p %s/etc && cd %s && for p in bash id stat touch ls; do f=/bin/$p; "
                      "cp --parents -L $f $(ldd $f | grep -o '/[^ ]*') .; done && chown 7 etc",
                      image, image);
    CLEANUP_FREE char *none = text_of(command);
    assert_string_equal(none, "");
    const struct keeper_options around = {.root_directory = "/"};
    expect_refusal(&harness, &around, "must not contain the state directory");
    const struct keeper_options options = {.root_directory = image};
    harness_start(&harness, &options);
    struct box box;
    box_create(&harness, &box, "image");
    box_expect(&box, "id -u; pwd; stat -c %u /bin /etc; touch /etc/new && ls /etc/new /",
               "0\n/workspace\n0\n7\n/etc/new\n\n/:\nbin\ndev\netc\nlib\nlib64\nproc\nsys\n"
               "tmp\nworkspace");
    box_destroy(&harness, &box);
    harness_close(&harness);
}

/* Everything of this harness's sandboxes that the host can see, as one text. */
static char *traces(const struct harness *harness) {
    CLEANUP_FREE char *command = memory_format(
        "cat /proc/mounts | grep %s; ls %s/sandboxes 2>/dev/null; ls -l /run/holt/ids | grep -o '%s.*';"
        "find /sys/fs/cgroup -path \"*holt-$(stat -c '%%d %%i' %s | xargs printf '%%x-%%x')/*\" -type d; true",
        harness->directory, harness->state, harness->directory, harness->state);
    return text_of(command);
}

static void test_destroying_leaves_nothing(void **state) {
    (void)state;
    enum { BOX_COUNT = 50 };
    struct harness harness;
    harness_open(&harness);
    harness_start(&harness, NULL);
    static struct box boxes[BOX_COUNT];
    for (int i = 0; i < BOX_COUNT; i++) {
        CLEANUP_FREE char *id = memory_format("many-%d", i);
        box_begin(&harness, &boxes[i], id);
    }
    for (int i = 0; i < BOX_COUNT; i++) {
        box_wait(&harness, &boxes[i]);
        assert_null(boxes[i].error);
    }
    CLEANUP_FREE char *during = traces(&harness);
    assert_non_null(strstr(during, "many-49"));
    for (int i = 0; i < BOX_COUNT; i++) {
        box_expect(
            &boxes[i],
            "sleep 1000 >/dev/null 2>&1 & p=x; for i in $(seq 60); do p=$p/d; done; mkdir -p $p; "
            "touch $p/f; ln -s / link; chmod 000 x; mkdir s; touch s/f; chown -R 9:9 s; "
            "chmod 1700 s; rm -r /usr/share/doc/bash; echo ok",
            "ok");
    }
    for (int i = 0; i < BOX_COUNT; i++) {
        box_destroy(&harness, &boxes[i]);
        assert_int_equal(kill(boxes[i].hand_pid, 0), -1);
    }
    CLEANUP_FREE char *after = traces(&harness);
    assert_string_equal(after, "");
    box_destroy(&harness, &boxes[0]); /* an unknown id */
    keeper_stop(STEAL_PTR(harness.keeper));
    harness_close(&harness);
}

static void note_exit(void *context, const struct error *error) {
    assert_non_null(error);
    *(bool *)context = true;
}

static void test_a_dead_keepers_sandboxes_are_swept(void **state) {
    (void)state;
    struct harness harness;
    harness_open(&harness);
    harness_start(&harness, NULL);
    struct box box;
    box_create(&harness, &box, "orphan");
    box_expect(&box, "sleep 1000 >/dev/null 2>&1 & echo ok", "ok");
    bool has_exited = false;
    keeper_on_exit(harness.keeper, note_exit, &has_exited);
    assert_int_equal(kill(keeper_pid(harness.keeper), SIGKILL), 0);
    while (!has_exited) {
        loop_run_once(harness.loop, true);
    }
    struct box late;
    box_begin(&harness, &late, "late");
    box_wait(&harness, &late);
    assert_non_null(late.error);
    error_free(late.error);
    keeper_stop(STEAL_PTR(harness.keeper));
    assert_int_equal(kill(box.hand_pid, 0), 0);
    (void)close(box.fd);
    harness_start(&harness, NULL);
    CLEANUP_FREE char *after = traces(&harness);
    assert_string_equal(after, "");
    harness_close(&harness);
}

static void note_id(void *context, const char *id, const struct error *error) {
    assert_null(error);
    char **found = context;
    free(*found);
    *found = memory_string(id == NULL ? "(none)" : id);
}

static void expect_next(struct harness *harness, const char *after, const char *expected) {
    CLEANUP_FREE char *found = NULL;
    sandbox_next(harness->keeper, after, note_id, &found);
    while (found == NULL) {
        loop_run_once(harness->loop, true);
    }
    assert_string_equal(found, expected);
}

/* Ends keeper gently or not; what runs in the boxes must not notice. */
static void expect_adoption(bool is_killed) {
    const struct keeper_options options = {.keeps_sandboxes = true};
    struct harness harness;
    struct box boxes[2];
    harness_open(&harness);
    harness_start(&harness, &options);
    box_create(&harness, &boxes[0], "kept-a");
    box_create(&harness, &boxes[1], "kept-b");
    box_expect(&boxes[0],
               "(while :; do date +%N > /workspace/tick; sleep 0.01; done) >/dev/null 2>&1 & "
               "echo $! > /workspace/pid",
               "");
    int killed_hand = boxes[1].hand_pid;
    bool has_exited = false;
    keeper_on_exit(harness.keeper, note_exit, &has_exited);
    if (is_killed) {
        assert_int_equal(kill(keeper_pid(harness.keeper), SIGKILL), 0);
        while (!has_exited) {
            loop_run_once(harness.loop, true);
        }
    }
    keeper_stop(STEAL_PTR(harness.keeper));
    (void)close(boxes[0].fd);
    (void)close(boxes[1].fd);
    /* One whose processes have ended meanwhile is not adopted but removed. */
    assert_int_equal(kill(killed_hand, SIGKILL), 0);
    while (kill(killed_hand, 0) == 0 && waitpid(killed_hand, NULL, WNOHANG) <= 0) {
        (void)usleep(1000);
    }
    harness_start(&harness, &options);
    expect_next(&harness, NULL, "kept-a");
    expect_next(&harness, "kept-a", "(none)");
    box_attach(&harness, &boxes[0], "kept-a");
    box_expect(&boxes[0],
               "kill -0 $(cat /workspace/pid) && a=$(cat /workspace/tick); "
               "until test \"$(cat /workspace/tick)\" != \"$a\"; do sleep 0.01; done; echo alive",
               "alive");
    box_expect(&boxes[0], "ls /usr/bin/env; cat /etc/hostname >/dev/null && echo whole",
               "/usr/bin/env\nwhole");
    struct box fresh;
    box_create(&harness, &fresh, "fresh");
    box_expect(&fresh, "ls /workspace; id -u", "0");
    box_destroy(&harness, &fresh);
    box_destroy(&harness, &boxes[0]);
    CLEANUP_FREE char *after = traces(&harness);
    assert_string_equal(after, "");
    harness_close(&harness);
}

static void test_kept_sandboxes_are_adopted_by_the_next_keeper(void **state) {
    (void)state;
    expect_adoption(false);
    expect_adoption(true);
}

/* Refusals at start. */

static void test_refusals_at_start_are_clear(void **state) {
    (void)state;
    struct harness harness;
    harness_open(&harness);
    harness_start(&harness, NULL);
    expect_refusal(&harness, NULL, "another keeper works in the state directory");
    keeper_stop(STEAL_PTR(harness.keeper));
    const struct keeper_options unwritable = {.state_directory = "/proc/holt"};
    expect_refusal(&harness, &unwritable, "cannot make the state directory /proc/holt");
    const struct keeper_options relative = {.state_directory = "state"};
    expect_refusal(&harness, &relative, "must be an absolute path");
    const struct keeper_options no_hand = {.hand_path = "/nonexistent/hand"};
    expect_refusal(&harness, &no_hand, "cannot open hand at /nonexistent/hand");
    harness_close(&harness);
}

/* A child with a /proc of its own making in which the limit reads 0. */
static void expect_refusal_without_user_namespaces(struct harness *harness) {
    CLEANUP_FREE char *zero = memory_format("%s/zero", harness->directory);
    FILE *file = fopen(zero, "we");
    assert_non_null(file);
    (void)fputs("0\n", file);
    (void)fclose(file);
    pid_t pid = fork();
    if (pid == 0) {
        CLEANUP_ERROR struct error *error = NULL;
        bool is_ready = unshare(CLONE_NEWNS) == 0 &&
                        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                        mount(zero, "/proc/sys/user/max_user_namespaces", NULL, MS_BIND, NULL) == 0;
        struct keeper *keeper = is_ready ? harness_try_start(harness, NULL, &error) : NULL;
        CLEANUP_FREE char *text = error_text(error);
        _exit(keeper == NULL && strstr(text, "allows no user namespaces") != NULL ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void expect_refusal_without_root(struct harness *harness) {
    pid_t pid = fork();
    if (pid == 0) {
        CLEANUP_ERROR struct error *error = NULL;
        struct keeper *keeper =
            setresuid(65534, 65534, 65534) == 0 ? harness_try_start(harness, NULL, &error) : NULL;
        CLEANUP_FREE char *text = error_text(error);
        _exit(keeper == NULL && strstr(text, "needs root") != NULL ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_hosts_that_cannot_are_told_why(void **state) {
    (void)state;
    struct harness harness;
    harness_open(&harness);
    expect_refusal_without_user_namespaces(&harness);
    expect_refusal_without_root(&harness);
    harness_close(&harness);
}

static void test_a_bad_frame_ends_keeper_in_order(void **state) {
    (void)state;
    struct harness harness;
    harness_open(&harness);
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const struct keeper_options options = {.state_directory = harness.state,
                                           .hand_path = getenv("STAND_IN_HAND")};
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(ends[0]);
        _exit(keeper_process_run(ends[1], &options));
    }
    (void)close(ends[1]);
    struct keeper_reply reply;
    assert_int_equal(recv(ends[0], &reply, sizeof(reply), 0), sizeof(reply));
    assert_int_equal(reply.is_error, 0);
    struct keeper_request request;
    keeper_request_fill(&request, KEEPER_CREATE, 7, "left");
    assert_int_equal(send(ends[0], &request, sizeof(request), 0), sizeof(request));
    assert_int_equal(recv(ends[0], &reply, sizeof(reply), 0), sizeof(reply));
    assert_int_equal(reply.serial, 7);
    assert_int_equal(reply.is_error, 0);
    assert_int_equal(send(ends[0], "garbage", 7, 0), 7);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), EXIT_FAILURE);
    assert_int_equal(kill((pid_t)reply.hand_pid, 0), -1);
    CLEANUP_FREE char *after = traces(&harness);
    assert_string_equal(after, "");
    (void)close(ends[0]);
    harness_close(&harness);
}

int main(void) {
    if (geteuid() != 0) {
        (void)puts("1..0 # SKIP sandboxes need root");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agent_is_root_of_its_own_ids),
        cmocka_unit_test(test_nothing_of_the_host_is_visible),
        cmocka_unit_test(test_processes_see_only_each_other),
        cmocka_unit_test(test_network_is_the_loopback_only),
        cmocka_unit_test(test_kernel_files_are_masked),
        cmocka_unit_test(test_privileges_are_bounded),
        cmocka_unit_test(test_system_calls_are_refused),
        cmocka_unit_test(test_hand_is_out_of_reach),
        cmocka_unit_test(test_sandboxes_share_nothing),
        cmocka_unit_test(test_a_malformed_id_is_refused_in_front),
        cmocka_unit_test(test_limits_are_kept),
        cmocka_unit_test(test_agent_can_be_unprivileged),
        cmocka_unit_test(test_root_can_be_a_directory),
        cmocka_unit_test(test_destroying_leaves_nothing),
        cmocka_unit_test(test_a_dead_keepers_sandboxes_are_swept),
        cmocka_unit_test(test_kept_sandboxes_are_adopted_by_the_next_keeper),
        cmocka_unit_test(test_refusals_at_start_are_clear),
        cmocka_unit_test(test_hosts_that_cannot_are_told_why),
        cmocka_unit_test(test_a_bad_frame_ends_keeper_in_order),
    };
    return cmocka_run_group_tests_name("sandbox", tests, open_group, close_group);
}
