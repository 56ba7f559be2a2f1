/* What api.c shares with api_stream.c. Private to src/cma. */
#ifndef HOLT_CMA_API_HEADERS_H
#define HOLT_CMA_API_HEADERS_H

#include "cma/api.h"

enum { API_FIXED_HEADERS = 5 };

struct http_client *api_http_client(const struct api *api);
/* The header lines of a request; free with api_headers_free, which wipes the credential. */
char **api_headers_new(const struct api *api, const char *accept, const char *const *more);
void api_headers_free(char **take_headers);
/* Whether a failed answer may be different later (protocol.md section 1). */
bool api_is_retryable(const struct http_response *response);
/* How long the server asks to wait; negative: it does not, or for longer than we obey. */
int64_t api_retry_after_ms(const struct http_response *response);
/* How long to wait before try number `tries` + 1: what the server asks, else doubling with jitter.
 */
int64_t api_retry_wait_ms(const struct http_response *response, int tries);
/* Sets the error of an answer that is no 2xx: status, the API's message, the request id. */
void api_set_error(struct error **error, const struct http_response *response, const char *what);

#endif
