/* test_admin_access.c — who asks the admin HTTP is somebody known, or nobody. */
#include "node/admin/admin_access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define READER "read-read-read-16"
#define WRITER "write-write-write-16"

static struct admin_tokens *given_tokens(const char *text)
{
    struct admin_tokens *tokens = admin_tokens_new();
    char error[128];
    assert_int_equal(admin_tokens_parse(tokens, bytes_text(text), error, sizeof(error)), STATUS_OK);
    return tokens;
}

static void then_asker(const struct admin_tokens *tokens, const char *header, enum admin_role role, const char *name)
{
    struct admin_asker asker = admin_token_asker(tokens, header);
    assert_int_equal(asker.role, role);
    assert_string_equal(asker.name, name);
}

static void a_token_has_the_role_and_the_name_of_its_line(void **state)
{
    struct admin_tokens *tokens = given_tokens("# operators\n\nread  mon\t" READER "\r\nwrite ann " WRITER);
    (void)state;
    then_asker(tokens, "Bearer " READER, ADMIN_READ, "token:mon");
    then_asker(tokens, "bearer " WRITER, ADMIN_WRITE, "token:ann");
    admin_tokens_free(tokens);
}

static void what_is_not_a_whole_token_is_nobodys(void **state)
{
    struct admin_tokens *tokens = given_tokens("write ann " WRITER "\n");
    static const char *const headers[] = {
        "",       "Bearer", "Bearer ", WRITER, "Basic " WRITER, "Bearer  " WRITER, "Bearer " WRITER " ", "Bearer " WRITER "x",
        "Bearer write-write-write-1", "Bearer ann", "Bearer WRITE-write-write-16", "Bearer " READER,
    };
    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        then_asker(tokens, headers[i], ADMIN_NOBODY, "");
    then_asker(tokens, NULL, ADMIN_NOBODY, "");
    then_asker(NULL, "Bearer " WRITER, ADMIN_NOBODY, "");
    admin_tokens_free(tokens);
}

static void the_token_of_the_configuration_is_one_of_them(void **state)
{
    struct admin_tokens *tokens = admin_tokens_new();
    (void)state;
    admin_tokens_add(tokens, ADMIN_WRITE, "admin", bytes_text(WRITER));
    then_asker(tokens, "Bearer " WRITER, ADMIN_WRITE, "token:admin");
    admin_tokens_free(tokens);
}

static void a_wrong_line_is_refused_by_its_number_and_not_shown(void **state)
{
    static const struct {
        const char *text, *line;
    } rows[] = {
        {"write ann\n", "line 1: "},
        {"\n#\nadmin ann " WRITER, "line 3: "},
        {"write ann 0123456789abcdef\nread mon 0123456789abcde", "line 2: "},
        {"write ann " WRITER " more", "line 1: "},
        {"write ann " WRITER "\nread mon " WRITER, "line 2: "},
        {"write a\x1b[31m " WRITER, "line 1: "},
        {"write ann 0123456789abcdef\x01", "line 1: "},
        {WRITER, "line 1: "},
    };
    char error[128], long_name[256];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct admin_tokens *tokens = admin_tokens_new();
        assert_int_equal(admin_tokens_parse(tokens, bytes_text(rows[i].text), error, sizeof(error)), STATUS_INVALID);
        assert_memory_equal(error, rows[i].line, strlen(rows[i].line));
        assert_null(strstr(error, WRITER));
        admin_tokens_free(tokens);
    }
    for (int length = ADMIN_NAME_BYTES_MAX; length <= ADMIN_NAME_BYTES_MAX + 1; length++) {
        struct admin_tokens *tokens = admin_tokens_new();
        snprintf(long_name, sizeof(long_name), "read %0*d " READER, length, 0);
        assert_int_equal(admin_tokens_parse(tokens, bytes_text(long_name), error, sizeof(error)),
                         length <= ADMIN_NAME_BYTES_MAX ? STATUS_OK : STATUS_INVALID);
        admin_tokens_free(tokens);
    }
}

static void then_certificate(const char *name, const char *readers, const char *writers, enum admin_role role)
{
    assert_int_equal(admin_certificate_asker(name, readers, writers).role, role);
}

static void a_certificate_has_the_role_that_its_name_is_listed_with(void **state)
{
    char long_name[ADMIN_NAME_BYTES_MAX + 2];
    (void)state;
    then_certificate("ann", "mon,bob", "eve,ann", ADMIN_WRITE);
    then_certificate("mon", "mon,bob", "eve,ann", ADMIN_READ);
    then_certificate("ann", "ann", "ann", ADMIN_WRITE);
    then_certificate("an", "mon,bob", "eve,ann", ADMIN_NOBODY);
    then_certificate("eve,ann", "mon,bob", "eve,ann", ADMIN_NOBODY);
    then_certificate("ann", "*", "", ADMIN_READ);
    then_certificate("*", "mon", "ann", ADMIN_NOBODY);
    then_certificate("", "*", "*", ADMIN_NOBODY);
    then_certificate("", "", "", ADMIN_NOBODY);
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    then_certificate(long_name, "*", "*", ADMIN_NOBODY);
    assert_string_equal(admin_certificate_asker("ann", "*", "").name, "certificate:ann");
}

static void nobody_calls_itself_like_a_token_or_a_certificate(void **state)
{
    (void)state;
    assert_true(admin_actor_allowed(bytes_text("ann")));
    assert_true(admin_actor_allowed(bytes_text("")));
    assert_false(admin_actor_allowed(bytes_text("token:ann")));
    assert_false(admin_actor_allowed(bytes_text("certificate:ann")));
}

static void a_page_of_another_site_is_told_by_the_host_it_asks_for(void **state)
{
    static const char *const local[] = {"localhost", "LOCALHOST:9883", "127.0.0.1", "127.0.0.1:9883", "[::1]:9883", "[::1]", "10.0.0.1:1"};
    static const char *const foreign[] = {
        "evil.example",   "evil.example:9883", "localhost.evil.example", "127.0.0.1.evil.example:9883", "", ":9883", "[::1", "[::1]x",
        "127.0.0.1:9883x", "127.0.0.1:",        "::1",                    "localhost:9883@evil.example", "evil.example#127.0.0.1",
        "0x7f000001",     "[evil.example]:9883", "[localhost]:9", "[127.0.0.1]",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
        assert_true(admin_host_is_local(local[i]));
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
        if (admin_host_is_local(foreign[i]))
            fail_msg("'%s' is taken for this machine", foreign[i]);
    assert_true(admin_host_is_local(NULL)); /* no browser */
}

static void a_form_cannot_send_what_counts_as_json(void **state)
{
    (void)state;
    assert_true(admin_type_is_json("application/json"));
    assert_true(admin_type_is_json("Application/JSON; charset=utf-8"));
    assert_false(admin_type_is_json("application/jsonp"));
    assert_false(admin_type_is_json("text/plain; application/json"));
    assert_false(admin_type_is_json("application/x-www-form-urlencoded"));
    assert_false(admin_type_is_json(""));
    assert_false(admin_type_is_json(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_has_the_role_and_the_name_of_its_line),
        cmocka_unit_test(what_is_not_a_whole_token_is_nobodys),
        cmocka_unit_test(the_token_of_the_configuration_is_one_of_them),
        cmocka_unit_test(a_wrong_line_is_refused_by_its_number_and_not_shown),
        cmocka_unit_test(a_certificate_has_the_role_that_its_name_is_listed_with),
        cmocka_unit_test(nobody_calls_itself_like_a_token_or_a_certificate),
        cmocka_unit_test(a_page_of_another_site_is_told_by_the_host_it_asks_for),
        cmocka_unit_test(a_form_cannot_send_what_counts_as_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
