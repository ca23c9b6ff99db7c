/* process.h — what this process can do to the machine it runs on: as little as possible, in four steps.
 *
 *   process_begin(): files for nobody else, no core dumps --> process_drop(): no longer root, no capabilities
 *   --> process_confine(): writes its data, and nothing else --> the node starts --> process_filter(): of the kernel only what a running node calls
 *
 * Nothing of this is ever taken back. A node that restarts itself (execv of the same program) goes through all of it again, so
 * whatever a start needs is allowed afterwards, too. */
#ifndef COTERIE_PROCESS_H
#define COTERIE_PROCESS_H

#include "base/status.h"
#include "config.h"

#define PROCESS_ERROR_MAX 512

/* umask, core dumps; warns of a configuration with secrets and of a data directory that others may read. `file`: the
 * configuration's, or NULL. */
void process_begin(const struct config *config, const char *file);

/* Of a file that is read through a map, as the store is: a page that the disk cannot give ends the process with a line in the log
 * and exit code 1, as any other error of a disk does, instead of SIGBUS. */
void process_watch_pages(void);

/* Before anything is opened or bound, and while there is one thread. Root becomes `node.user`, or stays root without
 * capabilities, which is warned about; CAP_NET_BIND_SERVICE alone is kept, and only for a listener below port 1024.
 * STATUS_INVALID: `error` is a sentence. */
enum status process_drop(const struct config *config, char error[PROCESS_ERROR_MAX]);

/* Then, and still while there is one thread: `node.confine_writes`, where the kernel has Landlock. */
void process_confine(const struct config *config);

/* Before there is a loop: what has to be out of reach from the beginning, as it could not be given up later. */
void process_filter_begin(const struct config *config);
/* When the node runs: `node.system_call_filter`, for all threads. STATUS_INVALID: the kernel does not take it, and it was
 * asked for by name (`auto` warns and goes on). */
enum status process_filter(const struct config *config);

/* Runs this program anew, in place; returns only if that is not possible. The filter knows no other program. */
void process_restart(char **arguments);

#endif
