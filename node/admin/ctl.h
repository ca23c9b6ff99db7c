/* ctl.h — what the files of coteriectl share: options, and one request to the admin HTTP of a node. */
#ifndef COTERIE_CTL_H
#define COTERIE_CTL_H

#include "base/bytes.h"

#include <jansson.h>

#define CTL_ERROR_MAX 256     /* CURL_ERROR_SIZE */
#define CTL_WORDS_MAX 16
#define CTL_USAGE     (-1)    /* what was asked for makes no sense: print how it is done */

struct ctl_options {
    const char *address;
    const char *ca, *certificate, *key;        /* PEM files; NULL: none, and without any of them no TLS */
    const char *token_file;                    /* NULL: COTERIE_ADMIN_TOKEN, or none */
    bool json, scram;
    const char *priority, *seconds, *reason;   /* NULL: not said */
    const char *words[CTL_WORDS_MAX];          /* what is no option; the first is the command */
    int word_count;
};

/* ctl_http.c: who asks. False: it was told what is wrong. */
bool ctl_begin(const struct ctl_options *options);
void ctl_end(void);
/* HTTP status of a GET, or of a POST of `json`; 0: nobody answers, and `why` says what. The answer is NUL-terminated. */
long ctl_request(const struct ctl_options *options, const char *address, const char *path, const char *json,
                 struct buffer *answer, char why[CTL_ERROR_MAX]);

/* ctl_security.c: a POST of `json`, which is taken over, by whoever runs this. The answer; NULL: it was told why not. */
json_t *ctl_change(const struct ctl_options *options, const char *address, const char *path, json_t *json);

/* ctl_security.c; exit codes, or CTL_USAGE */
int command_user(const struct ctl_options *options);
int command_role(const struct ctl_options *options);
int command_ban(const struct ctl_options *options);
int command_audit(const struct ctl_options *options);
int command_reload(const struct ctl_options *options);

#endif
