/* fuzz_password_file.c — any text as a file of passwords: refused, or each line of it is a user who is found.
 *
 * The lines are read a second time, in the plainest way. The one password that no fuzzer finds opens nothing: the lines'
 * costs are bounded, but one is enough, so it is tried seldom. */
#include "node/client/credential.h"
#include "node/client/password_file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bytes next_line(struct bytes *rest)
{
    const uint8_t *end = memchr(rest->data, '\n', rest->size);
    struct bytes line = bytes_of(rest->data, end != NULL ? (size_t)(end - rest->data) : rest->size);
    size_t taken = line.size + (end != NULL);
    *rest = bytes_of(rest->data + taken, rest->size - taken);
    return line;
}

/* Each user of an accepted file: the line is one of its own, or another of the same name is. */
static void check_lines(const struct password_file *file, struct bytes rest)
{
    while (rest.size > 0) {
        struct bytes line = next_line(&rest), credential;
        const uint8_t *colon = line.size > 0 ? memchr(line.data, ':', line.size) : NULL;
        if (line.size == 0 || line.data[0] == '#' || colon == NULL)
            continue; /* nothing, or only blanks */
        struct bytes name = bytes_of(line.data, (size_t)(colon - line.data));
        assert(password_file_find(file, name, &credential));
        assert(credential_kind(credential) != CREDENTIAL_INVALID);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct password_file *file;
    struct bytes text = bytes_of(data, size), credential;
    char error[200] = "";
    (void)credential_kind(text);
    enum status status = password_file_parse(text, &file, error, sizeof error);
    assert((status == STATUS_OK) == (error[0] == '\0'));
    if (status != STATUS_OK)
        return 0;
    check_lines(file, text);
    assert(!password_file_find(file, bytes_text("nobody of that name\n"), &credential));
    struct bytes dummy = password_file_dummy(file);
    if (dummy.size > 0 && size % 64 == 0)
        assert(!credential_verify(dummy, bytes_text("a password that no fuzzer finds")));
    password_file_free(file);
    return 0;
}
