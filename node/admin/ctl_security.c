/* ctl_security.c — coteriectl user, role, ban, audit and reload: words -> JSON -> the admin HTTP of a node -> a line.
 *
 * Names are shown with what is not printable escaped: they come from whoever chose them. */
#include "ctl.h"

#include "base/memory.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PASSWORD_BYTES_MAX 1024

/* ---- asking a node ---- */

static int complain(const char *what)
{
    fprintf(stderr, "coteriectl: %s\n", what);
    return 1;
}

/* The answer as JSON; NULL: it was told why not. Takes `json` over (NULL: a GET). */
static json_t *ask(const struct ctl_options *options, const char *address, const char *path, json_t *json)
{
    struct buffer answer = {0};
    char why[CTL_ERROR_MAX];
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    long status = ctl_request(options, address, path, text, &answer, why);
    json_t *said = status != 0 ? json_loads((const char *)answer.data, 0, NULL) : NULL;
    const char *error = json_string_value(json_object_get(said, "error"));
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
    json_decref(json);
    if (status == 0)
        fprintf(stderr, "coteriectl: no answer from %s: %s\n", address, why);
    else if (status != 200)
        fprintf(stderr, "coteriectl: %s\n", error != NULL ? error : (const char *)answer.data);
    buffer_release(&answer);
    if (status == 200)
        return said;
    json_decref(said);
    return NULL;
}

json_t *ctl_change(const struct ctl_options *options, const char *address, const char *path, json_t *json)
{
    const char *actor = getenv("USER");
    json_object_set_new(json, "actor", json_string(actor != NULL ? actor : "operator"));
    return ask(options, address, path, json);
}

static int change(const struct ctl_options *options, const char *path, json_t *json)
{
    json_t *said = ctl_change(options, options->address, path, json);
    if (said == NULL)
        return 1;
    printf("%s\n", json_string_value(json_object_get(said, "result")));
    json_decref(said);
    return 0;
}

/* ---- showing ---- */

/* Bytes beyond ASCII are left: they are UTF-8, as JSON is. */
static void print_text(const json_t *json, int width)
{
    const char *text = json_string_value(json);
    int printed = 0;
    for (; text != NULL && *text != '\0'; text++, printed++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte == 0x7f)
            printed += printf("\\x%02x", byte) - 1;
        else
            putchar(byte);
    }
    printf("%*s", printed < width ? width - printed : 1, "");
}

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static int print_json(json_t *said)
{
    json_dumpf(said, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(said);
    return 0;
}

/* ---- users ---- */

/* From a terminal without echo, and twice; else the first line of the input. */
static bool read_line(const char *prompt, char password[PASSWORD_BYTES_MAX])
{
    struct termios before, silent;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
        fprintf(stderr, "%s: ", prompt);
    }
    bool read = fgets(password, PASSWORD_BYTES_MAX, stdin) != NULL;
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    if (read)
        password[strcspn(password, "\r\n")] = '\0';
    return read && password[0] != '\0';
}

static bool read_password(char password[PASSWORD_BYTES_MAX])
{
    char again[PASSWORD_BYTES_MAX];
    bool same = read_line("Password", password);
    if (same && isatty(STDIN_FILENO))
        same = read_line("Again", again) && strcmp(password, again) == 0;
    explicit_bzero(again, sizeof(again));
    return same;
}

static int change_password(const struct ctl_options *options, json_t *json)
{
    char password[PASSWORD_BYTES_MAX];
    if (!read_password(password)) {
        json_decref(json);
        return complain("expected a password, the same twice");
    }
    json_object_set_new(json, "password", json_string(password));
    json_object_set_new(json, "scram", json_boolean(options->scram));
    explicit_bzero(password, sizeof(password));
    return change(options, "/users", json);
}

/* "connections=5"; false: it is not like that. */
static bool set_quota(json_t *json, const char *word)
{
    static const char *const known[] = {"connections", "messages_per_s", "bytes_per_s", "subscriptions",
                                        "queued_bytes"};
    const char *equals = strchr(word, '=');
    char *end;
    for (size_t i = 0; equals != NULL && i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i]) != (size_t)(equals - word) || strncmp(known[i], word, strlen(known[i])) != 0)
            continue;
        long long number = strtoll(equals + 1, &end, 10);
        json_object_set_new(json, known[i], json_integer(number));
        return end != equals + 1 && *end == '\0' && number >= 0;
    }
    return false;
}

static int list_users(const struct ctl_options *options)
{
    json_t *said = ask(options, options->address, "/users", NULL);
    const json_t *user;
    size_t i;
    if (said == NULL || options->json)
        return said == NULL ? 1 : print_json(said);
    printf("%-24s %-8s %-13s %s\n", "NAME", "ENABLED", "KEPT",
           "QUOTA (connections, messages/s, bytes/s, subscriptions, "
           "queued bytes; 0: none)");
    json_array_foreach(json_object_get(said, "users"), i, user)
    {
        print_text(json_object_get(user, "name"), 25);
        printf("%-8s %-13s %lld, %lld, %lld, %lld, %lld\n",
               json_is_true(json_object_get(user, "enabled")) ? "yes" : "no",
               json_string_value(json_object_get(user, "kept")), number_of(user, "connections"),
               number_of(user, "messages_per_s"), number_of(user, "bytes_per_s"), number_of(user, "subscriptions"),
               number_of(user, "queued_bytes"));
    }
    if (json_is_true(json_object_get(said, "more")))
        printf("... and more: GET /users?after=NAME\n");
    json_decref(said);
    return 0;
}

int command_user(const struct ctl_options *options)
{
    const char *what = options->word_count > 1 ? options->words[1] : "";
    bool named = options->word_count == 3;
    if (strcmp(what, "list") == 0 && options->word_count == 2)
        return list_users(options);
    if (options->word_count < 3)
        return CTL_USAGE;
    json_t *json = json_pack("{s:s, s:s}", "do", what, "name", options->words[2]);
    if (named && (strcmp(what, "add") == 0 || strcmp(what, "passwd") == 0))
        return change_password(options, json);
    bool known = named && (strcmp(what, "enable") == 0 || strcmp(what, "disable") == 0 || strcmp(what, "remove") == 0);
    if (strcmp(what, "quota") == 0) {
        known = true;
        for (int i = 3; i < options->word_count; i++)
            known = known && set_quota(json, options->words[i]);
    }
    if (known)
        return change(options, "/users", json);
    json_decref(json);
    return CTL_USAGE;
}

/* ---- roles ---- */

static json_t *rights_of(const char *words)
{
    json_t *rights = json_array();
    char *copy = memory_text(strcmp(words, "all") == 0 ? "publish,subscribe,receive" : words), *rest = copy, *word;
    while ((word = strsep(&rest, ",")) != NULL)
        json_array_append_new(rights, json_string(word));
    free(copy);
    return rights;
}

static int list_roles(const struct ctl_options *options)
{
    json_t *said = ask(options, options->address, "/roles", NULL);
    const json_t *role, *rule, *grant;
    size_t i, k;
    if (said == NULL || options->json)
        return said == NULL ? 1 : print_json(said);
    json_array_foreach(json_object_get(said, "roles"), i, role)
    {
        print_text(json_object_get(role, "name"), 0);
        putchar('\n');
        json_array_foreach(json_object_get(role, "rules"), k, rule)
        {
            printf("  %-5s %-9s %6lld  ", json_string_value(json_object_get(rule, "rule")),
                   json_string_value(json_object_get(rule, "right")), number_of(rule, "priority"));
            print_text(json_object_get(rule, "filter"), 0);
            putchar('\n');
        }
        json_array_foreach(json_object_get(said, "grants"), k, grant)
        {
            if (!json_equal(json_object_get(grant, "role"), json_object_get(role, "name")))
                continue;
            printf("  granted to ");
            print_text(json_object_get(grant, "user"), 0);
            putchar('\n');
        }
    }
    json_decref(said);
    return 0;
}

int command_role(const struct ctl_options *options)
{
    const char *what = options->word_count > 1 ? options->words[1] : "";
    int count = options->word_count;
    bool rule = strcmp(what, "allow") == 0 || strcmp(what, "deny") == 0 || strcmp(what, "clear") == 0;
    bool grant = strcmp(what, "grant") == 0 || strcmp(what, "revoke") == 0;
    bool plain = strcmp(what, "add") == 0 || strcmp(what, "remove") == 0;
    if (strcmp(what, "list") == 0 && count == 2)
        return list_roles(options);
    if (!(plain && count == 3) && !(grant && count == 4) && !(rule && count == 5))
        return CTL_USAGE;
    json_t *json = json_pack("{s:s, s:s}", "do", what, "name", options->words[2]);
    if (grant)
        json_object_set_new(json, "user", json_string(options->words[3]));
    if (rule) {
        json_object_set_new(json, "rights", rights_of(options->words[3]));
        json_object_set_new(json, "filter", json_string(options->words[4]));
        json_object_set_new(json, "priority",
                            json_integer(options->priority != NULL ? strtoll(options->priority, NULL, 10) : 0));
    }
    return change(options, "/roles", json);
}

/* ---- bans, the audit log, files ---- */

static int list_bans(const struct ctl_options *options)
{
    json_t *said = ask(options, options->address, "/bans", NULL);
    const json_t *ban;
    size_t i;
    if (said == NULL || options->json)
        return said == NULL ? 1 : print_json(said);
    printf("%-8s %-32s %-13s %-16s %s\n", "KIND", "NAME", "SECONDS LEFT", "BY", "REASON");
    json_array_foreach(json_object_get(said, "bans"), i, ban)
    {
        printf("%-8s ", json_string_value(json_object_get(ban, "kind")));
        print_text(json_object_get(ban, "name"), 33);
        if (json_is_null(json_object_get(ban, "seconds_left")))
            printf("%-13s ", "for ever");
        else
            printf("%-13lld ", number_of(ban, "seconds_left"));
        print_text(json_object_get(ban, "by"), 17);
        print_text(json_object_get(ban, "reason"), 0);
        putchar('\n');
    }
    json_decref(said);
    return 0;
}

int command_ban(const struct ctl_options *options)
{
    const char *what = options->word_count > 1 ? options->words[1] : "";
    if (strcmp(what, "list") == 0 && options->word_count == 2)
        return list_bans(options);
    if ((strcmp(what, "add") != 0 && strcmp(what, "remove") != 0) || options->word_count != 4)
        return CTL_USAGE;
    json_t *json = json_pack("{s:s, s:s, s:s, s:s}", "do", what, "kind", options->words[2], "name", options->words[3],
                             "reason", options->reason != NULL ? options->reason : "");
    if (options->seconds != NULL)
        json_object_set_new(json, "seconds", json_integer(strtoll(options->seconds, NULL, 10)));
    return change(options, "/bans", json);
}

int command_audit(const struct ctl_options *options)
{
    json_t *said = ask(options, options->address, "/audit", NULL);
    const json_t *one;
    size_t i;
    if (said == NULL || options->json)
        return said == NULL ? 1 : print_json(said);
    json_array_foreach(json_object_get(said, "changes"), i, one)
    {
        time_t seconds = (time_t)(number_of(one, "cluster_ms") / 1000);
        struct tm when;
        char text[32];
        gmtime_r(&seconds, &when);
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &when);
        printf("%s  ", text);
        print_text(json_object_get(one, "by"), 16);
        print_text(json_object_get(one, "what"), 0);
        putchar('\n');
    }
    json_decref(said);
    return 0;
}

int command_reload(const struct ctl_options *options)
{
    return change(options, "/reload", json_object());
}
