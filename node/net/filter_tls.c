/* filter_tls.c — TLS (cluster/tls.h) as a filter.
 *
 *   receive, not open: bytes -> `shake`->input --FILTER_WORK--> work(), on another thread: the handshake goes on
 *                      -> receive with nothing: what it has written goes out; open, a fault, or more input is wanted
 *                      the last step, if it is no public-key work, is done at once instead: a hand-over costs more
 *   open:              bytes -> plain text, at once
 *
 * OpenSSL's own session is made when the first bytes come: who only connects costs little. What a handshake may keep
 * of input is bounded by INPUT_BYTES_MAX; OpenSSL bounds what it takes for one message. */
#include "filter.h"

#include "base/memory.h"

#include <stdlib.h>

#define INPUT_BYTES_MAX (64 * 1024) /* between two steps of a handshake */

struct shake {
    struct buffer input, output;
    bool worked; /* work() has been here since the last receive() */
    enum tls_result result;
};

struct filter_tls {
    struct filter filter;
    struct tls_context *context; /* until there is a session */
    struct tls_session *session;
    struct shake *shake; /* until it is open */
    const char *fault;
};

static enum filter_result result_of(enum tls_result result)
{
    return result == TLS_FAULT ? FILTER_FAULT : result == TLS_END ? FILTER_END : FILTER_OK;
}

static void shake_free(struct filter_tls *tls)
{
    if (tls->shake == NULL)
        return;
    buffer_release(&tls->shake->input);
    buffer_release(&tls->shake->output);
    free(tls->shake);
    tls->shake = NULL;
}

static void tls_work(struct filter *filter)
{
    struct filter_tls *tls = (struct filter_tls *)filter;
    struct shake *shake = tls->shake;
    if (tls->session == NULL)
        tls->session = tls_session_new(tls->context, true);
    shake->result = tls_session_handshake(tls->session, buffer_bytes(&shake->input), &shake->output);
    shake->worked = true;
}

/* What work() has left. */
static enum filter_result take_work(struct filter_tls *tls, struct buffer *plain, struct buffer *wire)
{
    struct shake *shake = tls->shake;
    enum tls_result result = shake->result;
    shake->worked = false;
    buffer_put_bytes(wire, buffer_bytes(&shake->output));
    buffer_release(&shake->output);
    if (result == TLS_DONE) {
        tls->filter.open = true;
        tls_context_release(tls->context); /* the session has its own reference */
        tls->context = NULL;
        result = tls_session_receive(tls->session, bytes_of(NULL, 0), plain, wire);
        shake_free(tls);
    } else {
        buffer_release(&shake->input);
    }
    return result_of(result);
}

static enum filter_result tls_receive(struct filter *filter, struct bytes in, struct buffer *plain,
                                      struct buffer *wire)
{
    struct filter_tls *tls = (struct filter_tls *)filter;
    if (filter->open)
        return result_of(tls_session_receive(tls->session, in, plain, wire));
    if (tls->shake == NULL)
        tls->shake = memory_zeroed(1, sizeof(*tls->shake));
    if (tls->shake->worked)
        return take_work(tls, plain, wire);
    if (in.size == 0)
        return FILTER_OK;
    if (tls->shake->input.size + in.size > INPUT_BYTES_MAX) {
        tls->fault = "too much at once in a handshake";
        return FILTER_FAULT;
    }
    buffer_put_bytes(&tls->shake->input, in);
    if (tls->session == NULL || !tls_session_is_nearly_done(tls->session))
        return FILTER_WORK;
    tls_work(filter);
    return take_work(tls, plain, wire);
}

static enum filter_result tls_send(struct filter *filter, struct bytes plain, struct buffer *wire)
{
    return result_of(tls_session_send(((struct filter_tls *)filter)->session, plain, wire));
}

static void tls_finish(struct filter *filter, struct buffer *wire)
{
    if (filter->open)
        tls_session_finish(((struct filter_tls *)filter)->session, wire);
}

static void tls_facts(const struct filter *filter, struct filter_facts *facts)
{
    facts->encrypted = true;
    tls_session_peer(((const struct filter_tls *)filter)->session, &facts->tls);
}

static const char *tls_fault(const struct filter *filter)
{
    const struct filter_tls *tls = (const struct filter_tls *)filter;
    return tls->fault != NULL || tls->session == NULL ? tls->fault : tls_session_fault(tls->session);
}

static void tls_free(struct filter *filter)
{
    struct filter_tls *tls = (struct filter_tls *)filter;
    shake_free(tls);
    tls_session_free(tls->session);
    tls_context_release(tls->context);
    free(tls);
}

static const struct filter_class tls_class = {
    .name = "tls",
    .receive = tls_receive,
    .send = tls_send,
    .finish = tls_finish,
    .work = tls_work,
    .facts = tls_facts,
    .fault = tls_fault,
    .free = tls_free,
};

struct filter *filter_tls_new(struct tls_context *context)
{
    struct filter_tls *tls = memory_zeroed(1, sizeof(*tls));
    tls->filter.class = &tls_class;
    tls->context = tls_context_retain(context);
    return &tls->filter;
}
