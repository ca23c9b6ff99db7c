/* fuzz_config.c — any bytes as configuration: a YAML file up to the first NUL, environment variables between the others.
 * It is refused with one sentence, or what was taken is within its limits. */
#include "node/config.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VARIABLES_MAX 16

static void check_config(const struct config *config)
{
    char host[256];
    uint32_t port;
    assert(config->node.id >= 1 && config->node.id < 64);
    assert(config->node.data_dir[0] != '\0');
    assert(config->cluster.member_count == 0 || config_self(config) != NULL);
    for (uint32_t i = 0; i < config->cluster.member_count; i++) {
        const struct config_member *member = &config->cluster.members[i];
        assert(member->id >= 1 && member->id < 64);
        assert(config_split_address(member->link, host, sizeof host, &port) && port >= 1 && port <= 65535);
    }
    assert(config->cluster.member_count <= CONFIG_MEMBERS_MAX);
    assert(config->listener_count >= 1 && config->listener_count <= CONFIG_LISTENERS_MAX);
    for (uint32_t i = 0; i < config->listener_count; i++)
        assert(config->listeners[i].kind[0] != '\0' && config->listeners[i].port <= 65535);
    assert(config->admin.port <= 65535);
    assert(config->limits.packet_bytes_max > 0 && config->limits.receive_maximum > 0);
    assert(config->timeouts.heartbeat_ms < config->timeouts.election_ms);
}

static void write_file(int file, const uint8_t *data, size_t size)
{
    if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t)size)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    static char path[64];
    if (file < 0) {
        file = memfd_create("configuration", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    char *copy = malloc(size + 1);
    memcpy(copy, data, size);
    copy[size] = '\0';

    size_t yaml_size = strlen(copy);
    const char *variables[VARIABLES_MAX + 1] = {NULL};
    size_t count = 0;
    for (size_t at = yaml_size + 1; at < size && count < VARIABLES_MAX; at += strlen(copy + at) + 1)
        variables[count++] = copy + at;
    write_file(file, data, yaml_size);

    struct config *config;
    char error[CONFIG_ERROR_MAX];
    enum status status = config_load(path, variables, &config, error);
    assert(status == STATUS_OK || status == STATUS_INVALID);
    assert((status == STATUS_OK) == (config != NULL));
    assert((status == STATUS_OK) == (error[0] == '\0') && memchr(error, '\0', sizeof error) != NULL);
    assert(strchr(error, '\n') == NULL);
    if (config != NULL)
        check_config(config);
    config_free(config);
    free(copy);
    return 0;
}
