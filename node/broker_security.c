/* broker_security.c — the files that say who may connect and what they may do, and passwords being checked.
 *
 *   password file, keys of tokens, ACL file --read and parsed--> core, which takes them over; tokens of operators --> admin
 *   SIGHUP, admin --> security_reload --thread pool--> the same; a file that cannot be used leaves the old one in its place
 *   core --login--> thread pool --> core
 *
 * At a start such a file stops the node: without it, it would let in whom it should not, or nobody. */
#include "broker_private.h"

#include "base/memory.h"
#include "client/acl_file.h"
#include "client/login.h"
#include "client/password_file.h"
#include "client/token.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define TOKEN_KEYS_BYTES_MAX (1024 * 1024)
#define FILE_ERROR_MAX       512
#define FILES                4

/* ---- reading ---- */

struct security_files {
    struct password_file *passwords;
    struct token_keys *keys;
    struct acl_file *acl;
    struct admin_tokens *tokens; /* of the admin HTTP, that of the configuration too */
    char errors[FILES][FILE_ERROR_MAX]; /* "" = read, or not configured */
};

static bool everybody_may(const struct stat *facts)
{
    return (facts->st_mode & S_IRWXO) != 0;
}

static void refuse_readable(const char *path, char error[FILE_ERROR_MAX])
{
    snprintf(error, FILE_ERROR_MAX, "%.300s: everybody on this machine may read it; expected mode 0600 or 0640", path);
}

/* The whole file; false: `error` says why not. */
static bool read_file(const char *path, size_t max, bool secret, struct buffer *out, char error[FILE_ERROR_MAX])
{
    FILE *file = fopen(path, "re");
    struct stat facts;
    bool good = false;
    if (file == NULL) {
        snprintf(error, FILE_ERROR_MAX, "%.300s: %s", path, strerror(errno));
        return false;
    }
    if (fstat(fileno(file), &facts) != 0 || !S_ISREG(facts.st_mode))
        snprintf(error, FILE_ERROR_MAX, "%.300s: expected a file", path);
    else if (secret && everybody_may(&facts))
        refuse_readable(path, error);
    else if ((uintmax_t)facts.st_size > max)
        snprintf(error, FILE_ERROR_MAX, "%.300s: expected at most %zu bytes", path, max);
    else
        good = true;
    if (good) {
        buffer_reserve(out, (size_t)facts.st_size + 1);
        out->size = fread(out->data, 1, (size_t)facts.st_size, file);
        good = out->size == (size_t)facts.st_size;
        if (!good)
            snprintf(error, FILE_ERROR_MAX, "%.300s: it was not read to its end", path);
    }
    fclose(file);
    return good;
}

static void release_secret(struct buffer *text)
{
    if (text->size > 0)
        explicit_bzero(text->data, text->size);
    buffer_release(text);
}

/* "FILE: what is wrong", where a parser has said the latter: lines become FILE:LINE. */
static void name_file(const char *path, const char *trouble, char error[FILE_ERROR_MAX])
{
    bool line = strncmp(trouble, "line ", 5) == 0;
    snprintf(error, FILE_ERROR_MAX, "%.300s:%s%s", path, line ? "" : " ", line ? trouble + 5 : trouble);
}

static void read_passwords(const struct config *config, struct security_files *files)
{
    const char *path = config->authentication.password_file;
    struct buffer text = {0};
    char trouble[128];
    if (path[0] == '\0' || !read_file(path, PASSWORD_FILE_BYTES_MAX, true, &text, files->errors[0]))
        return;
    if (password_file_parse(buffer_bytes(&text), &files->passwords, trouble, sizeof(trouble)) != STATUS_OK)
        name_file(path, trouble, files->errors[0]);
    release_secret(&text);
}

/* Public keys are for everybody; with secret ones whoever reads them makes tokens. */
static void check_keys_file(const char *path, struct security_files *files)
{
    struct stat facts;
    if (!token_keys_secret(files->keys) || (stat(path, &facts) == 0 && !everybody_may(&facts)))
        return;
    refuse_readable(path, files->errors[1]);
    token_keys_release(files->keys);
    files->keys = NULL;
}

static void read_keys(const struct config *config, struct security_files *files)
{
    const struct token_settings settings = {.issuer = config->authentication.token_issuer,
                                            .audience = config->authentication.token_audience,
                                            .user_claim = config->authentication.token_user_claim,
                                            .leeway_s = config->authentication.token_leeway_s};
    const char *path = config->authentication.token_keys;
    struct buffer text = {0};
    char trouble[128];
    if (path[0] == '\0' || !read_file(path, TOKEN_KEYS_BYTES_MAX, false, &text, files->errors[1]))
        return;
    if (token_keys_parse(buffer_bytes(&text), &settings, &files->keys, trouble, sizeof(trouble)) != STATUS_OK)
        name_file(path, trouble, files->errors[1]);
    else
        check_keys_file(path, files);
    release_secret(&text);
}

static void read_acl(const struct config *config, struct security_files *files)
{
    const char *path = config->authorization.acl_file;
    struct buffer text = {0};
    char trouble[128];
    if (path[0] == '\0' || !read_file(path, ACL_FILE_BYTES_MAX, false, &text, files->errors[2]))
        return;
    if (acl_file_parse(buffer_bytes(&text), &files->acl, trouble, sizeof(trouble)) != STATUS_OK)
        name_file(path, trouble, files->errors[2]);
    buffer_release(&text);
}

/* Without a file: the one of the configuration, if there is one. */
static void read_tokens(const struct config *config, struct security_files *files)
{
    const char *path = config->admin.token_file;
    struct buffer text = {0};
    char trouble[128];
    files->tokens = admin_tokens_new();
    if (config->admin.token[0] != '\0')
        admin_tokens_add(files->tokens, ADMIN_WRITE, "admin", bytes_text(config->admin.token));
    if (path[0] == '\0' || !read_file(path, ADMIN_TOKENS_FILE_BYTES_MAX, true, &text, files->errors[3]))
        return;
    if (admin_tokens_parse(files->tokens, buffer_bytes(&text), trouble, sizeof(trouble)) != STATUS_OK)
        name_file(path, trouble, files->errors[3]);
    release_secret(&text);
}

static void read_all(const struct config *config, struct security_files *files)
{
    read_passwords(config, files);
    read_keys(config, files);
    read_acl(config, files);
    read_tokens(config, files);
}

static void release_all(struct security_files *files)
{
    password_file_free(files->passwords);
    token_keys_release(files->keys);
    acl_file_free(files->acl);
    admin_tokens_free(files->tokens);
    free(files);
}

/* ---- at the start ---- */

enum status security_open(struct broker *broker, char *error)
{
    struct security_files *files = memory_zeroed(1, sizeof(*files));
    read_all(broker->config, files);
    for (int i = 0; i < FILES; i++) {
        if (files->errors[i][0] == '\0')
            continue;
        snprintf(error, BROKER_ERROR_MAX, "%s", files->errors[i]);
        release_all(files);
        return STATUS_INVALID;
    }
    if (broker->admin != NULL)
        admin_set_tokens(broker->admin, files->tokens); /* before anybody can ask */
    else
        admin_tokens_free(files->tokens);
    files->tokens = NULL;
    broker->security_files = files;
    return STATUS_OK;
}

void security_close(struct broker *broker)
{
    if (broker->security_files != NULL)
        release_all(broker->security_files);
    broker->security_files = NULL;
}

void security_give(struct broker *broker)
{
    struct security_files *files = broker->security_files;
    core_set_password_file(broker->core, files->passwords);
    core_set_token_keys(broker->core, files->keys);
    core_set_acl_file(broker->core, files->acl);
    free(files);
    broker->security_files = NULL;
}

/* ---- again ---- */

struct security_reload {
    uv_work_t request;
    struct broker *broker;
    struct security_files *files;
};

static void reload_run(uv_work_t *request)
{
    struct security_reload *reload = request->data;
    read_all(reload->broker->config, reload->files);
}

/* Whether the file may take the place of the old one. */
static bool is_new(const char *path, const char *error)
{
    if (error[0] != '\0')
        log_event(LOG_ERROR, "file-not-reloaded", log_text("why", error),
                  log_text("consequence", "what was loaded before stays in use"));
    else if (path[0] != '\0')
        log_event(LOG_INFO, "file-reloaded", log_text("file", path));
    return path[0] != '\0' && error[0] == '\0';
}

static void take_files(struct broker *broker, struct security_files *files)
{
    const struct config *config = broker->config;
    if (is_new(config->authentication.password_file, files->errors[0])) {
        core_set_password_file(broker->core, files->passwords);
        files->passwords = NULL;
    }
    if (is_new(config->authentication.token_keys, files->errors[1])) {
        core_set_token_keys(broker->core, files->keys);
        files->keys = NULL;
    }
    if (is_new(config->authorization.acl_file, files->errors[2])) {
        core_set_acl_file(broker->core, files->acl);
        files->acl = NULL;
    }
    if (is_new(config->admin.token_file, files->errors[3]) && broker->admin != NULL) {
        admin_set_tokens(broker->admin, files->tokens);
        files->tokens = NULL;
    }
}

static void reload_done(uv_work_t *request, int status)
{
    struct security_reload *reload = request->data;
    struct broker *broker = reload->broker;
    (void)status; /* never cancelled */
    broker->jobs--;
    broker->security_reloading = false;
    broker_begin(broker);
    if (broker_alive(broker))
        take_files(broker, reload->files);
    broker->numbers.reloads++;
    release_all(reload->files);
    free(reload);
    if (broker->security_reload_again)
        security_reload(broker);
}

void security_reload(struct broker *broker)
{
    broker->security_reload_again = broker->security_reloading;
    if (broker->security_reloading || !broker_alive(broker) || broker->core == NULL)
        return;
    struct security_reload *reload = memory_zeroed(1, sizeof(*reload));
    reload->broker = broker;
    reload->files = memory_zeroed(1, sizeof(*reload->files));
    reload->request.data = reload;
    broker->security_reloading = true;
    broker->jobs++;
    int error = uv_queue_work(broker->loop, &reload->request, reload_run, reload_done);
    assert(error == 0);
    (void)error;
}

/* ---- passwords ---- */

struct login_work {
    uv_work_t request;
    struct broker *broker;
    struct login *login;
};

static void login_work_run(uv_work_t *request)
{
    struct login_work *work = request->data;
    login_run(work->login, (uint64_t)time(NULL));
}

static void login_work_done(uv_work_t *request, int status)
{
    struct login_work *work = request->data;
    struct broker *broker = work->broker;
    (void)status; /* never cancelled */
    broker->jobs--;
    broker_begin(broker);
    if (broker_alive(broker))
        core_login_done(broker->core, work->login, broker->now_ms);
    else
        login_free(work->login);
    free(work);
}

void security_login(struct broker *broker, struct login *login)
{
    struct login_work *work = memory_zeroed(1, sizeof(*work));
    work->broker = broker;
    work->login = login;
    work->request.data = work;
    broker->jobs++;
    int error = uv_queue_work(broker->loop, &work->request, login_work_run, login_work_done);
    assert(error == 0);
    (void)error;
}

void broker_submit(struct broker *broker, struct disk_job *job)
{
    struct disk_queue queue = for_jobs(broker);
    queue.submit(queue.context, job);
}
