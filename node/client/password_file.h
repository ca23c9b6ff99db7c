/* password_file.h — users and hashes of passwords in a file, as mosquitto_passwd writes it: lines of
 *
 *   name:$7$iterations$salt$hash          or   name:$argon2id$...        (credential.h says which there are)
 *
 * Empty lines and those that begin with # are passed over. Anything else that is no such line refuses the whole file: a
 * line that was meant to be a user must not vanish, nor half a file count as all of it. */
#ifndef COTERIE_PASSWORD_FILE_H
#define COTERIE_PASSWORD_FILE_H

#include "base/bytes.h"
#include "base/status.h"

struct password_file;

#define PASSWORD_FILE_BYTES_MAX (64 * 1024 * 1024)

/* STATUS_INVALID: `error` is "line N: what was expected"; it quotes nothing. */
enum status password_file_parse(struct bytes text, struct password_file **file, char *error, size_t error_size);
void password_file_free(struct password_file *file);    /* NULL is allowed */

/* false: no such user. *credential is borrowed from the file. `file` may be NULL. */
bool password_file_find(const struct password_file *file, struct bytes name, struct bytes *credential);
/* That of any user, so that unknown ones cost what known ones do; of nobody, if there is none. */
struct bytes password_file_dummy(const struct password_file *file);

#endif
