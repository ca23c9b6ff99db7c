/* test_process.c — a page that cannot be read ends a node as any other error of a disk does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "node/process.h"

#define PAGE_BYTES 4096

/* A page of a file that is no longer there: what the kernel does then is what it does when the disk fails. */
static void read_lost_page(void)
{
    FILE *file = tmpfile();
    if (file == NULL || ftruncate(fileno(file), PAGE_BYTES) != 0)
        _exit(90);
    volatile const char *page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (page == MAP_FAILED || ftruncate(fileno(file), 0) != 0)
        _exit(91);
    _exit(page[0] == 0 ? 92 : 93);
}

static void be_signalled(void)
{
    raise(SIGBUS);
    _exit(94);
}

/* How a process that watches its pages ended, and what it said. */
static int end_of(void (*work)(void), char said[1024])
{
    int ends[2], end;
    size_t size = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        process_watch_pages();
        work();
    }
    close(ends[1]);
    for (ssize_t taken = 1; taken > 0; size += (size_t)(taken > 0 ? taken : 0))
        taken = read(ends[0], said + size, 1023 - size);
    said[size] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &end, 0), child);
    return end;
}

static void a_page_that_cannot_be_read_is_told_and_ends_the_process(void **state)
{
    (void)state;
    char said[1024];
    int end = end_of(read_lost_page, said);
    assert_true(WIFEXITED(end));
    assert_int_equal(WEXITSTATUS(end), 1);
    assert_non_null(strstr(said, "event=node-failed"));
    assert_non_null(strstr(said, "cannot read a page"));
}

static void a_signal_of_that_number_from_anybody_is_what_it_always_was(void **state)
{
    (void)state;
    char said[1024];
    int end = end_of(be_signalled, said);
    assert_true(WIFSIGNALED(end));
    assert_int_equal(WTERMSIG(end), SIGBUS);
    assert_null(strstr(said, "node-failed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_that_cannot_be_read_is_told_and_ends_the_process),
        cmocka_unit_test(a_signal_of_that_number_from_anybody_is_what_it_always_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
