import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.NameCallback;
import javax.security.auth.callback.PasswordCallback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.sasl.AuthorizeCallback;
import javax.security.sasl.RealmCallback;
import javax.security.sasl.Sasl;
import javax.security.sasl.SaslClient;
import javax.security.sasl.SaslException;
import javax.security.sasl.SaslServer;

/**
 * The JDK's side of the benchmarks: tests/bench/jdk.py compiles it and says what it does.
 *
 * <p>Both ends of one DIGEST-MD5 login, in this process, with the cipher that its argument names. A
 * line "seal SIZE COUNT" or "unseal SIZE COUNT" comes in; a line with what COUNT calls took goes
 * out: wall clock, and this thread's CPU time (the compiler's and the collector's threads are left
 * out), in nanoseconds. It ends with its standard input.
 */
public final class Seal {
    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();

    private final SaslClient client;
    private final SaslServer server;

    private Seal(String cipher) throws SaslException {
        Map<String, String> properties =
                Map.of(
                        Sasl.QOP, "auth-conf",
                        Sasl.MAX_BUFFER, "65536",
                        "com.sun.security.sasl.digest.cipher", cipher);
        client =
                Sasl.createSaslClient(
                        new String[] {"DIGEST-MD5"},
                        null,
                        "test",
                        "localhost",
                        properties,
                        Seal::answer);
        server =
                Sasl.createSaslServer("DIGEST-MD5", "test", "localhost", properties, Seal::answer);
        byte[] challenge = server.evaluateResponse(new byte[0]);
        while (!client.isComplete()) {
            byte[] response = client.evaluateChallenge(challenge);
            if (response != null) {
                challenge = server.evaluateResponse(response);
            }
        }
    }

    private static void answer(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (callback instanceof RealmCallback realm) {
                realm.setText(realm.getDefaultText());
            } else if (callback instanceof NameCallback name) {
                name.setName("alice");
            } else if (callback instanceof PasswordCallback password) {
                password.setPassword("s3cret".toCharArray());
            } else if (callback instanceof AuthorizeCallback authorize) {
                authorize.setAuthorized(true);
            } else {
                throw new UnsupportedCallbackException(callback);
            }
        }
    }

    private String measure(boolean unseal, int size, int count) throws SaslException {
        byte[] message = new byte[size];
        byte[][] tokens = new byte[count][];
        for (int i = 0; unseal && i < count; i++) {
            tokens[i] = server.wrap(message, 0, size);
        }
        byte[] last = message;
        long wall = System.nanoTime();
        long cpu = THREADS.getCurrentThreadCpuTime();
        for (int i = 0; i < count; i++) {
            last =
                    unseal
                            ? client.unwrap(tokens[i], 0, tokens[i].length)
                            : client.wrap(message, 0, size);
        }
        cpu = THREADS.getCurrentThreadCpuTime() - cpu;
        wall = System.nanoTime() - wall;
        if (unseal && last.length != size) {
            throw new SaslException("unwrap gave something else");
        }
        return wall + " " + cpu;
    }

    /** Reads commands. */
    public static void main(String[] arguments) throws IOException {
        Seal seal = new Seal(arguments[0]);
        BufferedReader lines =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            boolean unseal = words[0].equals("unseal");
            System.out.println(
                    seal.measure(unseal, Integer.parseInt(words[1]), Integer.parseInt(words[2])));
        }
    }
}
