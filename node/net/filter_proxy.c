/* filter_proxy.c — a PROXY header in front of everything else; then it lets all pass.
 *
 * The header is mandatory: a connection that begins with anything else is refused. */
#include "filter.h"

#include "base/memory.h"

#include <stdlib.h>

struct filter_proxy {
    struct filter filter;
    struct proxy_header header;
    struct buffer input; /* until the header is whole */
};

static enum filter_result proxy_receive(struct filter *filter, struct bytes in, struct buffer *plain,
                                        struct buffer *wire)
{
    struct filter_proxy *proxy = (struct filter_proxy *)filter;
    size_t used;
    (void)wire;
    if (filter->open) {
        buffer_put_bytes(plain, in);
        return FILTER_OK;
    }
    buffer_put_bytes(&proxy->input, in);
    enum status status = proxy_header_decode(buffer_bytes(&proxy->input), &proxy->header, &used);
    if (status == STATUS_NEED_MORE)
        return FILTER_OK;
    if (status != STATUS_OK)
        return FILTER_FAULT;
    buffer_put(plain, proxy->input.data + used, proxy->input.size - used);
    buffer_release(&proxy->input);
    filter->open = true;
    return FILTER_OK;
}

static enum filter_result proxy_send(struct filter *filter, struct bytes plain, struct buffer *wire)
{
    (void)filter;
    buffer_put_bytes(wire, plain);
    return FILTER_OK;
}

static void proxy_facts(const struct filter *filter, struct filter_facts *facts)
{
    facts->proxy = &((const struct filter_proxy *)filter)->header;
}

static const char *proxy_fault(const struct filter *filter)
{
    return filter->open ? NULL : "no PROXY header, which this listener demands";
}

static void proxy_free(struct filter *filter)
{
    struct filter_proxy *proxy = (struct filter_proxy *)filter;
    buffer_release(&proxy->input);
    free(proxy);
}

static const struct filter_class proxy_class = {
    .name = "proxy",
    .receive = proxy_receive,
    .send = proxy_send,
    .facts = proxy_facts,
    .fault = proxy_fault,
    .free = proxy_free,
};

struct filter *filter_proxy_new(void)
{
    struct filter_proxy *proxy = memory_zeroed(1, sizeof(*proxy));
    proxy->filter.class = &proxy_class;
    return &proxy->filter;
}
