/* main.c — the `coterie` program: reads options and configuration, runs one node until it is told to stop. */
#include "base/hash.h"
#include "base/logger.h"
#include "broker.h"
#include "config.h"
#include "process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

extern char **environ;

static const char usage[] =
    "usage: coterie [--config FILE] [--replace NUMBER] [--check-config] [--help-config] [--version] [--help]\n"
    "\n"
    "A node of a cluster of MQTT brokers. Without --config: a single node on localhost, data in ./coterie-data.\n"
    "\n"
    "  --config FILE    read this configuration (YAML)\n"
    "  --replace NUMBER take the place of this node, which lost its data; greater each time, say 20260131 (a date)\n"
    "  --check-config   say whether the configuration is right, and end\n"
    "  --help-config    list all options; each can also be set by an environment variable\n"
    "  --version        print the version\n";

struct arguments {
    const char *config;
    bool check;
};

/* Returns -1 to go on, else the exit code. */
static int parse_arguments(int count, char **values, struct arguments *arguments)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(values[i], "--config") == 0 && i + 1 < count) {
            arguments->config = values[++i];
        } else if (strncmp(values[i], "--config=", 9) == 0 && values[i][9] != '\0') {
            arguments->config = values[i] + 9;
        } else if (strcmp(values[i], "--replace") == 0 && i + 1 < count) {
            setenv("COTERIE_CLUSTER_REPLACE", values[++i], 1);
        } else if (strcmp(values[i], "--check-config") == 0) {
            arguments->check = true;
        } else if (strcmp(values[i], "--version") == 0) {
            printf("coterie %s\n", COTERIE_VERSION);
            return 0;
        } else if (strcmp(values[i], "--help") == 0 || strcmp(values[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        } else if (strcmp(values[i], "--help-config") == 0) {
            struct buffer text = {0};
            config_describe(&text);
            fwrite(text.data, 1, text.size, stdout);
            buffer_release(&text);
            return 0;
        } else if (strcmp(values[i], "--config") == 0) {
            fprintf(stderr, "coterie: --config: expected a file\n");
            return 2;
        } else {
            fprintf(stderr, "coterie: unknown option '%s'\n%s", values[i], usage);
            return 2;
        }
    }
    return -1;
}

static int run(const struct config *config, char **values)
{
    struct broker *broker;
    char error[BROKER_ERROR_MAX] = "";
    uv_loop_t loop;
    uv_loop_init(&loop);
    enum status status = broker_open(&loop, config, &broker, error);
    if (status != STATUS_OK) {
        if (error[0] != '\0')
            log_event(LOG_ERROR, "not-started", log_text("why", error));
        uv_loop_close(&loop);
        return 1;
    }
    status = process_filter(config);
    if (status != STATUS_OK)
        broker_stop(broker);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    enum broker_end end = broker_free(broker);
    if (end == BROKER_END_RESTART) {
        log_event(LOG_WARNING, "restarting");
        process_restart(values);
    }
    log_event(LOG_INFO, "stopped");
    return end == BROKER_END_STOPPED && status == STATUS_OK ? 0 : 1;
}

static void say_single_node(const struct config *config)
{
    char clients[300], admin[300];
    snprintf(clients, sizeof(clients), "%s:%u", config->listeners[0].address, config->listeners[0].port);
    snprintf(admin, sizeof(admin), "%s:%u", config->admin.address, config->admin.port);
    log_event(LOG_INFO, "single-node",
              log_text("what", "no configuration: a single node, nothing is replicated; see coterie --help"),
              log_text("clients", clients), log_text("admin", admin), log_text("data_dir", config->node.data_dir));
}

/* What hash tables are seeded with, so that nobody can choose keys that collide. */
static void draw_secret(void)
{
    uint64_t secret;
    if (getrandom(&secret, sizeof(secret), 0) == (ssize_t)sizeof(secret))
        hash_set_secret(secret);
}

int main(int count, char **values)
{
    struct arguments arguments = {0};
    struct config *config;
    char error[CONFIG_ERROR_MAX];
    int code = parse_arguments(count, values, &arguments);
    if (code >= 0)
        return code;
    if (config_load(arguments.config, (const char *const *)environ, &config, error) != STATUS_OK) {
        fprintf(stderr, "coterie: %s\n", error);
        return 2;
    }
    if (arguments.check) {
        puts("the configuration is right");
        config_free(config);
        return 0;
    }
    log_configure(config->log.level, config->log.format, config->node.id);
    process_begin(config, arguments.config);
    if (arguments.config == NULL && config->cluster.member_count == 0) {
        config->cluster.bootstrap = true;
        say_single_node(config);
    }
    signal(SIGPIPE, SIG_IGN);
    process_watch_pages();
    draw_secret();
    setenv("UV_THREADPOOL_SIZE", "8", 0); /* flushes of the log must not wait for name look-ups and snapshots */
    if (process_drop(config, error) != STATUS_OK) {
        log_event(LOG_ERROR, "not-started", log_text("why", error));
        config_free(config);
        return 1;
    }
    process_confine(config);
    process_filter_begin(config);
    code = run(config, values);
    config_free(config);
    return code;
}
