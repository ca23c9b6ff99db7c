/* coteriectl.c — the command line for operators, over the admin HTTP of any node (ctl_http.c).
 *
 *   coteriectl status [--address HOST:PORT] [--json]    the cluster as a table: asks one node who the members are, then each
 *   coteriectl ready [--address HOST:PORT]              exit code 0 if that node serves clients
 *   coteriectl remove NODE [--address HOST:PORT]        takes a node that has stopped out of the cluster, by way of the leader
 *   coteriectl user|role|ban|audit|reload ...           who may connect, and what they may do: ctl_security.c
 *
 * To add a command: a row in `commands`. */
#include "ctl.h"

#include "base/bytes.h"
#include "base/memory.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REMOVAL_LOOKS    50
#define REMOVAL_PAUSE_NS 100000000

static json_t *ask_status(const struct ctl_options *options, const char *address, char why[CTL_ERROR_MAX])
{
    struct buffer answer = {0};
    json_t *status = NULL;
    long code = ctl_request(options, address, "/status", NULL, &answer, why);
    if (code == 200)
        status = json_loads((const char *)answer.data, 0, NULL);
    else if (code != 0)
        snprintf(why, CTL_ERROR_MAX, "%ld: %.*s", code, (int)strcspn((const char *)answer.data, "\n"), (const char *)answer.data);
    buffer_release(&answer);
    return status;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_head(void)
{
    printf("%-5s %-10s %6s %10s %10s %8s %9s  %-22s %-22s %s\n", "NODE", "ROLE", "TERM", "COMMIT", "APPLIED", "CLIENTS",
           "SESSIONS", "CLIENT ADDRESS", "ADMIN", "READY");
}

static void print_node(const json_t *status, const char *admin)
{
    char client[64];
    snprintf(client, sizeof(client), "%s", text_of(status, "client_address"));
    if (client[0] == '\0')
        snprintf(client, sizeof(client), ":%lld", number_of(status, "client_port"));
    bool ready = json_is_true(json_object_get(status, "ready"));
    printf("%-5lld %-10s %6lld %10lld %10lld %8lld %9lld  %-22s %-22s %s%s\n", number_of(status, "id"),
           text_of(status, "role"), number_of(status, "term"), number_of(status, "commit_index"),
           number_of(status, "applied_index"), number_of(status, "clients"), number_of(status, "sessions"), client,
           admin, ready ? "yes" : "no: ", text_of(status, "reason"));
}

/* Prints the node that was asked and each member that it names; returns how many did not answer. */
static int print_cluster(const struct ctl_options *options, const json_t *first, json_t *nodes)
{
    int silent = 0;
    size_t i;
    const json_t *member;
    const json_t *members = json_object_get(first, "members");
    if (json_array_size(members) == 0) {
        print_node(first, options->address);
        return 0;
    }
    json_array_foreach((json_t *)members, i, member)
    {
        const char *admin = text_of(member, "admin");
        char why[CTL_ERROR_MAX] = "its admin address is not configured (cluster.members, admin)";
        bool asked = number_of(member, "id") == number_of(first, "id");
        json_t *status = asked ? json_incref((json_t *)first) : admin[0] != '\0' ? ask_status(options, admin, why) : NULL;
        if (status != NULL) {
            json_array_append(nodes, status);
            print_node(status, asked && admin[0] == '\0' ? options->address : admin);
        } else {
            bool removed = json_is_true(json_object_get(member, "removed"));
            silent += !removed;
            if (removed)
                snprintf(why, sizeof(why), "it was taken out of the cluster");
            printf("%-5lld %-10s %6s %10s %10s %8s %9s  %-22s %-22s no: %s\n", number_of(member, "id"), "?", "-", "-",
                   "-", "-", "-", text_of(member, "client"), admin, why);
        }
        json_decref(status);
    }
    return silent;
}

static int command_status(const struct ctl_options *options)
{
    char why[CTL_ERROR_MAX];
    json_t *first = ask_status(options, options->address, why);
    if (first == NULL) {
        fprintf(stderr, "coteriectl: no answer from %s: %s\n", options->address, why);
        return 1;
    }
    if (options->json) {
        json_dumpf(first, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(first);
        return 0;
    }
    json_t *nodes = json_array();
    print_head();
    int silent = print_cluster(options, first, nodes);
    json_decref(nodes);
    json_decref(first);
    return silent > 0 ? 3 : 0;
}

static int command_ready(const struct ctl_options *options)
{
    struct buffer answer = {0};
    char why[CTL_ERROR_MAX];
    long status = ctl_request(options, options->address, "/readyz", NULL, &answer, why);
    if (status == 0)
        printf("no answer from %s: %s\n", options->address, why);
    else
        fputs((const char *)answer.data, stdout);
    buffer_release(&answer);
    return status == 200 ? 0 : 1;
}

/* ---- remove ---- */

/* NULL: `node` is none that this node was configured with. */
static const json_t *member_of(const json_t *status, long long node)
{
    size_t i;
    const json_t *member;
    json_array_foreach(json_object_get(status, "members"), i, member)
    {
        if (number_of(member, "id") == node)
            return member;
    }
    return NULL;
}

/* Asks `leader` until its status says so, or not any more. */
static int wait_for_removal(const struct ctl_options *options, const char *leader, long long node)
{
    char why[CTL_ERROR_MAX];
    for (int i = 0; i < REMOVAL_LOOKS; i++) {
        json_t *status = ask_status(options, leader, why);
        bool removed = json_is_true(json_object_get(member_of(status, node), "removed"));
        json_decref(status);
        if (removed) {
            printf("node %lld is no member any more\n", node);
            return 0;
        }
        nanosleep(&(struct timespec){.tv_nsec = REMOVAL_PAUSE_NS}, NULL);
    }
    fprintf(stderr, "coteriectl: it is not known whether node %lld was taken out: see coteriectl status --json\n", node);
    return 1;
}

static int remove_by(const struct ctl_options *options, const char *leader, long long node)
{
    json_t *said = ctl_change(options, leader, "/members", json_pack("{s:s, s:I}", "do", "remove", "node", (json_int_t)node));
    if (said == NULL)
        return 1;
    json_decref(said);
    return wait_for_removal(options, leader, node);
}

static int command_remove(const struct ctl_options *options)
{
    char why[CTL_ERROR_MAX], *end;
    long long node = options->word_count == 2 ? strtoll(options->words[1], &end, 10) : 0;
    if (node < 1 || *end != '\0')
        return CTL_USAGE;
    json_t *status = ask_status(options, options->address, why);
    if (status == NULL) {
        fprintf(stderr, "coteriectl: no answer from %s: %s\n", options->address, why);
        return 1;
    }
    long long leader = number_of(status, "leader");
    const char *address = leader == number_of(status, "id") ? options->address : text_of(member_of(status, leader), "admin");
    int code = 1;
    if (leader == 0)
        fprintf(stderr, "coteriectl: no leader is known to %s\n", options->address);
    else if (address[0] == '\0')
        fprintf(stderr, "coteriectl: node %lld leads, and its admin address is not configured (cluster.members, admin): ask it\n",
                leader);
    else
        code = remove_by(options, address, node);
    json_decref(status);
    return code;
}

static const struct command {
    const char *name;
    const char *usage;
    const char *meaning;
    int (*run)(const struct ctl_options *options);
} commands[] = {
    {"status", "", "the cluster as a table; --json: what the asked node says", command_status},
    {"ready", "", "exit code 0 if the node serves clients", command_ready},
    {"remove", "NODE", "takes a node that has stopped out of the cluster; to come back it has to be a replacement",
     command_remove},
    {"user", "add|passwd NAME [--scram]", "the password is asked for, or the first line of the input", command_user},
    {"user", "enable|disable|remove NAME", "everywhere at one place in the log; who is connected is disconnected",
     NULL},
    {"user", "quota NAME [QUOTA=NUMBER]...", "connections, messages_per_s, bytes_per_s, subscriptions, queued_bytes",
     NULL},
    {"user", "list", "", NULL},
    {"role", "add|remove ROLE", "as soon as there is a role, what no rule allows is denied", command_role},
    {"role", "allow|deny ROLE RIGHTS FILTER", "RIGHTS: publish,subscribe,receive or all; [--priority NUMBER]", NULL},
    {"role", "clear ROLE RIGHTS FILTER", "takes a rule back", NULL},
    {"role", "grant|revoke ROLE USER", "USER may be $everyone or $anonymous", NULL},
    {"role", "list", "", NULL},
    {"ban", "add user|client|address NAME", "[--for SECONDS] [--reason TEXT]; an address may be ADDRESS/BITS",
     command_ban},
    {"ban", "remove user|client|address NAME", "", NULL},
    {"ban", "list", "", NULL},
    {"audit", "", "the last changes of users, roles and bans", command_audit},
    {"reload", "", "reads certificates, keys, password and ACL files of this node again", command_reload},
};

static const char options_text[] =
    "\n"
    "  --address HOST:PORT  of a node's admin HTTP; default: 127.0.0.1:9883\n"
    "  --ca FILE            ask by TLS: PEM file of who vouches for the nodes, whose certificates have to name HOST\n"
    "  --cert FILE --key FILE   a certificate of your own, and its key\n"
    "  --token-file FILE    a token alone, or a node's admin.token_file, of which the first for write is taken\n"
    "  --json               what the asked node says\n"
    "\n"
    "Each can be in the environment: COTERIE_CTL_ADDRESS, _CA, _CERT, _KEY, _TOKEN_FILE. So can what a node is configured\n"
    "by, which serves there too: COTERIE_ADMIN_PORT, _TOKEN, _TOKEN_FILE. Without TLS no token leaves this machine.\n";

static int print_usage(FILE *out)
{
    fprintf(out, "usage: coteriectl COMMAND ... [OPTION]...\n\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(out, "  %-6s %-34s %s\n", commands[i].name, commands[i].usage, commands[i].meaning);
    fputs(options_text, out);
    return out == stdout ? 0 : 2;
}

/* Options that take a value; NULL: this is none of them. */
static const char **valued_option(struct ctl_options *options, const char *name)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {
        {"--address", &options->address},   {"--ca", &options->ca},         {"--cert", &options->certificate},
        {"--key", &options->key},           {"--token-file", &options->token_file},
        {"--priority", &options->priority}, {"--for", &options->seconds},   {"--reason", &options->reason},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].value;
    return NULL;
}

/* False: something that is not known. */
static bool parse(int count, char **values, struct ctl_options *options)
{
    for (int i = 1; i < count; i++) {
        const char **value = valued_option(options, values[i]);
        if (value != NULL && i + 1 < count)
            *value = values[++i];
        else if (strcmp(values[i], "--json") == 0)
            options->json = true;
        else if (strcmp(values[i], "--scram") == 0)
            options->scram = true;
        else if (strncmp(values[i], "--", 2) == 0 || options->word_count == CTL_WORDS_MAX)
            return false;
        else
            options->words[options->word_count++] = values[i];
    }
    return options->word_count > 0;
}

/* What is in the environment, as long as no option says otherwise. */
static void take_environment(struct ctl_options *options, char *address, size_t size)
{
    const char *port = getenv("COTERIE_ADMIN_PORT"), *whole = getenv("COTERIE_CTL_ADDRESS");
    const char *own_file = getenv("COTERIE_CTL_TOKEN_FILE");
    snprintf(address, size, "127.0.0.1:%.8s", port != NULL ? port : "9883");
    options->address = whole != NULL ? whole : address;
    options->ca = getenv("COTERIE_CTL_CA");
    options->certificate = getenv("COTERIE_CTL_CERT");
    options->key = getenv("COTERIE_CTL_KEY");
    options->token_file = own_file != NULL ? own_file : getenv("COTERIE_ADMIN_TOKEN_FILE");
}

int main(int count, char **values)
{
    char address[64];
    struct ctl_options options = {0};
    int code = CTL_USAGE;
    take_environment(&options, address, sizeof(address));
    if (count == 2 && strcmp(values[1], "--help") == 0)
        return print_usage(stdout);
    if (!parse(count, values, &options))
        return print_usage(stderr);
    if (!ctl_begin(&options))
        return 1;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, options.words[0]) == 0) {
            code = commands[i].run(&options);
            break;
        }
    }
    ctl_end();
    return code == CTL_USAGE ? print_usage(stderr) : code;
}
