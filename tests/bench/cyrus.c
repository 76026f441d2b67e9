/* Cyrus SASL's side of the benchmarks: tests/bench/cyrus.py compiles it and says what it does.

   cyrus FOLDER SSF: both ends of one DIGEST-MD5 login, in this process, with a
   layer of exactly this strength. A line "seal SIZE COUNT" or "unseal SIZE COUNT" comes in; a line
   with what COUNT calls took goes out: wall clock and CPU time, in nanoseconds. What the timed calls
   need is made before, and outside of the clock. It ends with its standard input. */

#include <sasl/sasl.h>
#include <sasl/saslutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const user = "alice", *const password = "s3cret", *const realm = "localhost";
static char database[4096];

typedef struct {
    char *data;
    unsigned length;
} octets;

static void check(int code, const char *what) {
    if (code != SASL_OK && code != SASL_CONTINUE) {
        fprintf(stderr, "%s: %s\n", what, sasl_errstring(code, NULL, NULL));
        exit(1);
    }
}

static void *need(void *memory) {
    if (memory == NULL) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* what the library asks */

static int get_option(void *context, const char *plugin, const char *option, const char **result,
                      unsigned *length) {
    (void)context, (void)plugin;
    if (strcmp(option, "sasldb_path") == 0)
        *result = database;
    else if (strcmp(option, "auxprop_plugin") == 0)
        *result = "sasldb";
    else if (strcmp(option, "pwcheck_method") == 0)
        *result = "auxprop";
    else
        return SASL_FAIL;
    if (length != NULL)
        *length = strlen(*result);
    return SASL_OK;
}

static int get_name(void *context, int id, const char **result, unsigned *length) {
    (void)context;
    *result = id == SASL_CB_AUTHNAME ? user : "";
    if (length != NULL)
        *length = strlen(*result);
    return SASL_OK;
}

static int get_realm(void *context, int id, const char **offered, const char **result) {
    (void)context, (void)id;
    *result = offered != NULL && offered[0] != NULL ? offered[0] : realm;
    return SASL_OK;
}

static int get_secret(sasl_conn_t *connection, void *context, int id, sasl_secret_t **secret) {
    static sasl_secret_t *kept;
    (void)connection, (void)context, (void)id;
    if (kept == NULL) {
        kept = need(malloc(sizeof *kept + strlen(password)));
        kept->len = strlen(password);
        memcpy(kept->data, password, kept->len);
    }
    *secret = kept;
    return SASL_OK;
}

typedef int (*callback)(void);

static const sasl_callback_t callbacks[] = {
    {SASL_CB_GETOPT, (callback)get_option, NULL},   {SASL_CB_USER, (callback)get_name, NULL},
    {SASL_CB_AUTHNAME, (callback)get_name, NULL},   {SASL_CB_PASS, (callback)get_secret, NULL},
    {SASL_CB_GETREALM, (callback)get_realm, NULL},  {SASL_CB_LIST_END, NULL, NULL},
};

/* the login */

static sasl_conn_t *client, *server;

static void log_in(unsigned ssf) {
    sasl_security_properties_t properties = {ssf, ssf, 65536, 0, NULL, NULL};
    const char *to_server, *to_client, *chosen;
    unsigned length, answer;
    int code;

    check(sasl_server_new("test", "localhost", realm, NULL, NULL, NULL, 0, &server), "server");
    check(sasl_setpass(server, user, password, strlen(password), NULL, 0, SASL_SET_CREATE),
          "user");
    check(sasl_client_new("test", "localhost", NULL, NULL, NULL, 0, &client), "client");
    check(sasl_setprop(server, SASL_SEC_PROPS, &properties), "server");
    check(sasl_setprop(client, SASL_SEC_PROPS, &properties), "client");
    check(sasl_client_start(client, "DIGEST-MD5", NULL, &to_server, &length, &chosen), "client");
    code = sasl_server_start(server, chosen, to_server, to_server ? length : 0, &to_client, &answer);
    while (code == SASL_CONTINUE) {
        check(sasl_client_step(client, to_client, answer, NULL, &to_server, &length),
              sasl_errdetail(client));
        code = sasl_server_step(server, to_server, length, &to_client, &answer);
    }
    check(code, sasl_errdetail(server));
}

/* what is measured */

static long long now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static octets sealed(sasl_conn_t *sender, const char *message, unsigned size) {
    octets frame;
    const char *output;
    check(sasl_encode(sender, message, size, &output, &frame.length), "sasl_encode");
    frame.data = need(malloc(frame.length));
    memcpy(frame.data, output, frame.length);
    return frame;
}

/* Client to server and server to client are two directions, each in sequence: what `seal` spends of
   the one is of no matter to what `unseal` takes of the other. */
static void measure(int unseal, unsigned size, unsigned count) {
    char *message = need(calloc(size, 1));
    octets *frames = need(calloc(count, sizeof *frames));
    const char *output;
    unsigned i, length;
    long long wall, cpu;

    for (i = 0; unseal && i < count; i++)
        frames[i] = sealed(server, message, size);
    wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    if (unseal)
        for (i = 0; i < count; i++)
            check(sasl_decode(client, frames[i].data, frames[i].length, &output, &length),
                  "sasl_decode");
    else
        for (i = 0; i < count; i++)
            check(sasl_encode(client, message, size, &output, &length), "sasl_encode");
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu, wall = now(CLOCK_MONOTONIC) - wall;
    if (unseal && (length != size || memcmp(output, message, size) != 0)) {
        fputs("sasl_decode gave something else\n", stderr);
        exit(1);
    }
    printf("%lld %lld\n", wall, cpu);
    fflush(stdout);
    for (i = 0; i < count; i++)
        free(frames[i].data);
    free(frames);
    free(message);
}

int main(int count, char **arguments) {
    char what[16];
    unsigned size, times;

    if (count != 3) {
        fputs("usage: cyrus FOLDER SSF\n", stderr);
        return 2;
    }
    snprintf(database, sizeof database, "%s/sasldb2", arguments[1]);
    check(sasl_server_init(callbacks, "saslwrap-bench"), "sasl_server_init");
    check(sasl_client_init(callbacks), "sasl_client_init");
    log_in(strtoul(arguments[2], NULL, 10));
    while (scanf("%15s %u %u", what, &size, &times) == 3)
        measure(strcmp(what, "unseal") == 0, size, times);
    return 0;
}
