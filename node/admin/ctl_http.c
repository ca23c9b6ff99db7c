/* ctl_http.c — one request of coteriectl to the admin HTTP of a node, by libcurl.
 *
 *   --ca, --cert, --key --> https: the node's certificate has to name the host that was asked, and to come from --ca
 *   --token-file, COTERIE_ADMIN_TOKEN --> Authorization: Bearer, by https or to this machine only
 *
 * A member that another node has named is asked like that node: an address in an answer does not get a token in the clear. */
#include "ctl.h"

#include "base/memory.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_BYTES_MAX    (16u * 1024 * 1024)
#define PATIENCE_MS         3000L
#define CONNECT_PATIENCE_MS 1000L
#define TLS_PATIENCE_MS     5000L  /* names of hosts, and a handshake */
#define CHANGE_PATIENCE_MS  15000L /* a change waits for the log */
#define TOKEN_MAX           1024

static char token[TOKEN_MAX + 1]; /* "": there is none */

/* ---- the token ---- */

/* A line with a token alone, or "ROLE NAME TOKEN" of a node's file. Returns how good it is: 0 = none, 2 = for changes too. */
static int token_of_line(char *line, char out[TOKEN_MAX + 1])
{
    char *words[4] = {NULL}, *rest = line, *word;
    int count = 0;
    while (count < 4 && (word = strsep(&rest, " \t\r\n")) != NULL)
        if (*word != '\0')
            words[count++] = word;
    if (count == 0 || words[0][0] == '#' || count == 2 || count == 4 || strlen(words[count - 1]) > TOKEN_MAX)
        return 0;
    strcpy(out, words[count - 1]);
    return count == 1 || strcmp(words[0], "write") == 0 ? 2 : 1;
}

static bool read_token(const char *path)
{
    char line[TOKEN_MAX + 256], found[TOKEN_MAX + 1];
    int best = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "coteriectl: %s: %s\n", path, strerror(errno));
        return false;
    }
    while (best < 2 && fgets(line, sizeof(line), file) != NULL) {
        int good = token_of_line(line, found);
        if (good <= best)
            continue;
        best = good;
        strcpy(token, found);
    }
    fclose(file);
    explicit_bzero(line, sizeof(line));
    explicit_bzero(found, sizeof(found));
    if (best == 0)
        fprintf(stderr, "coteriectl: %s: expected a token\n", path);
    return best > 0;
}

bool ctl_begin(const struct ctl_options *options)
{
    const char *plain = getenv("COTERIE_ADMIN_TOKEN");
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (options->token_file != NULL)
        return read_token(options->token_file);
    if (plain != NULL)
        snprintf(token, sizeof(token), "%s", plain);
    return true;
}

void ctl_end(void)
{
    explicit_bzero(token, sizeof(token));
    curl_global_cleanup();
}

/* ---- a request ---- */

static size_t take_bytes(char *data, size_t size, size_t count, void *context)
{
    struct buffer *answer = context;
    if (answer->size + size * count > ANSWER_BYTES_MAX)
        return 0;
    buffer_put(answer, data, size * count);
    return size * count;
}

static bool uses_tls(const struct ctl_options *options)
{
    return options->ca != NULL || options->certificate != NULL || options->key != NULL;
}

/* HOST:PORT, and nothing else that could stand before a path. */
static bool is_address(const char *address)
{
    const char *colon = strrchr(address, ':');
    return colon != NULL && colon[1] != '\0' && colon[1 + strspn(colon + 1, "0123456789")] == '\0' &&
           strpbrk(address, "@/?#\\ ") == NULL;
}

static bool is_this_machine(const char *address)
{
    return strncmp(address, "127.", 4) == 0 ? strspn(address, "0123456789.:") == strlen(address)
                                            : strncmp(address, "localhost:", 10) == 0 || strncmp(address, "[::1]:", 6) == 0;
}

static struct curl_slist *headers_of(const struct ctl_options *options, const char *address)
{
    char authorization[TOKEN_MAX + 32];
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (token[0] == '\0' || (!uses_tls(options) && !is_this_machine(address)))
        return headers;
    snprintf(authorization, sizeof(authorization), "Authorization: Bearer %s", token);
    headers = curl_slist_append(headers, authorization);
    explicit_bzero(authorization, sizeof(authorization));
    return headers;
}

static void set_tls(CURL *curl, const struct ctl_options *options)
{
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, TLS_PATIENCE_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, TLS_PATIENCE_MS + PATIENCE_MS);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    if (options->ca != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, options->ca);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL); /* nobody else */
    }
    if (options->certificate != NULL)
        curl_easy_setopt(curl, CURLOPT_SSLCERT, options->certificate);
    if (options->key != NULL)
        curl_easy_setopt(curl, CURLOPT_SSLKEY, options->key);
}

long ctl_request(const struct ctl_options *options, const char *address, const char *path, const char *json,
                 struct buffer *answer, char why[CTL_ERROR_MAX])
{
    char url[1024];
    long status = 0;
    if (!is_address(address)) {
        snprintf(why, CTL_ERROR_MAX, "expected HOST:PORT");
        buffer_put_u8(answer, 0);
        return 0;
    }
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = headers_of(options, address);
    why[0] = '\0';
    snprintf(url, sizeof(url), "%s://%.300s%.600s", uses_tls(options) ? "https" : "http", address, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, PATIENCE_MS);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_PATIENCE_MS);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (uses_tls(options))
        set_tls(curl, options);
    if (json != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, CHANGE_PATIENCE_MS);
    }
    CURLcode result = curl_easy_perform(curl);
    if (result == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    else if (why[0] == '\0')
        snprintf(why, CTL_ERROR_MAX, "%s", curl_easy_strerror(result));
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    buffer_put_u8(answer, 0);
    return status;
}
